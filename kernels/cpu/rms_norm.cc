#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void rms_norm(const RmsNormParams& params) {
  const int64_t width = params.x.shape[1];
  std::vector<float> weight(static_cast<size_t>(width));
  read_row(params.weight.data, params.weight.dtype, width, weight.data());
  parallel_for(params.x.shape[0], 16, [&](int64_t row) {
    thread_local std::vector<float> normed;
    normed.resize(static_cast<size_t>(width));
    norm_row({.width = width,
              .x = reinterpret_cast<float*>(address(params.x, row)),
              .delta = params.delta.data == nullptr
                           ? nullptr
                           : reinterpret_cast<const float*>(address(params.delta, row)),
              .weight = weight.data(),
              .epsilon = params.epsilon,
              .out = normed.data()});
    write_row(normed.data(), width, params.out.dtype, address(params.out, row));
  });
}

}  // namespace quire::cpu
