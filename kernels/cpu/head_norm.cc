#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void head_norm(const HeadNormParams& params) {
  const int64_t num_heads = params.x.shape[1], head_dim = params.x.shape[2];
  std::vector<float> weight(static_cast<size_t>(head_dim));
  read_row(params.weight.data, params.weight.dtype, head_dim, weight.data());
  parallel_for(params.x.shape[0], 16, [&](int64_t t) {
    for (int64_t h = 0; h < num_heads; ++h) {
      auto* x = reinterpret_cast<float*>(address(params.x, t, h));
      norm_row({.width = head_dim,
                .x = x,
                .delta = nullptr,
                .weight = weight.data(),
                .epsilon = params.epsilon,
                .out = x});
    }
  });
}

}  // namespace quire::cpu
