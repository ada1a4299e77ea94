#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"

namespace quire {

struct BackendOptions {
  int num_threads = 0;  // CPU threads for one op; 0 = as many as the process may run on
  // Memory for the intermediate results of one op on a GPU; 0 = chosen from the device's memory
  int64_t scratch_bytes = 0;
  bool decode_graphs = true;  // a GPU gets a step of decoding as one graph
};

/// A backend that this binary knows by name, and whether it can run here.
struct BackendInfo {
  std::string spec;  // "reference", "cpu", "cuda:0"
  bool available = false;
  std::string detail;  // what it runs on, or why it is absent
};

/// All backends known to this build, the preferred one first. Asks the machine; cheap.
std::vector<BackendInfo> list_backends();

/// `spec` is a name from list_backends() or "auto" (the first available one). Throws
/// std::invalid_argument naming the known backends, or why the asked one is absent.
std::unique_ptr<Backend> make_backend(std::string_view spec, const BackendOptions& options = {});

}  // namespace quire
