#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/backends.h"
#include "tests/support/device_tensor.h"

namespace quire::test {

/// The backends that can pack such weights, then "", which stands for none: one entry at least.
template <class CanPack>
std::vector<std::string> backends_that(const CanPack& can_pack) {
  std::vector<std::string> names;
  for (const std::string& name : kernel_backends()) {
    if (can_pack(*make_test_backend(name))) names.push_back(name);
  }
  names.push_back("");
  return names;
}

/// a * weight^T, [rows, weight.num_rows()]. `a`: [rows, weight.num_columns()].
inline std::vector<float> product(Backend& backend, const PackedWeight& weight,
                                  const std::vector<BFloat16>& a) {
  const int64_t k = weight.num_columns();
  const int64_t num_rows = static_cast<int64_t>(a.size()) / k;
  const DeviceTensor<BFloat16> device_a(backend, a, {num_rows, k});
  const DeviceTensor<float> out(backend, {num_rows, weight.num_rows()});
  backend.matmul({.a = device_a, .weight = &weight, .out = out});
  return out.download();
}

}  // namespace quire::test
