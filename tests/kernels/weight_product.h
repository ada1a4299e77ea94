#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/device_tensor.h"

namespace quire::test {

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
