#include "kernels/backend_registry.h"

#include <functional>
#include <stdexcept>
#include <string>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"

namespace quire {
namespace {

struct Entry {
  BackendInfo info;
  std::function<std::unique_ptr<Backend>(const BackendOptions&)> make;  // empty: absent
};

/// The preferred one first.
std::vector<Entry> entries() {
  return {
      {{"cpu", true, "oneDNN and SIMD on this machine's CPU"}, make_cpu_backend},
      {{"reference", true, "plain loops"}, make_reference_backend},
      {{"cuda:0", false, "this version has no CUDA backend"}, nullptr},
  };
}

}  // namespace

std::vector<BackendInfo> list_backends() {
  std::vector<BackendInfo> infos;
  for (const Entry& entry : entries()) infos.push_back(entry.info);
  return infos;
}

std::unique_ptr<Backend> make_backend(std::string_view spec, const BackendOptions& options) {
  std::string known;
  for (const Entry& entry : entries()) {
    const BackendInfo& info = entry.info;
    if (info.available && (spec == "auto" || spec == info.spec)) return entry.make(options);
    if (spec == info.spec) {
      throw std::invalid_argument("backend '" + info.spec + "' is not available: " + info.detail);
    }
    known += (known.empty() ? "" : ", ") + info.spec;
  }
  throw std::invalid_argument("unknown backend '" + std::string(spec) + "'; known: auto, " + known);
}

}  // namespace quire
