#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/reduce.cuh"

namespace quire::cuda {

/// out[row, head, :] from partials [first, first + num_partials), in their order; the work of one
/// warp. With M the largest maximum: sum over i of 2^(m_i - M) * out_i, divided by the same sum of
/// sum_i.
__device__ __forceinline__ void merge_partials(const float* partial_out,
                                               const float2* partial_state, int64_t first,
                                               int num_partials, int head_dim, const FloatRows& out,
                                               int64_t out_offset) {
  float maximum = -INFINITY;
  for (int i = 0; i < num_partials; ++i) maximum = fmaxf(maximum, partial_state[first + i].x);
  // All scores -inf: the quotient below is 0 / 0, as in the definition.
  const float reference = maximum == -INFINITY ? 0.0f : maximum;
  float total = 0;
  for (int i = 0; i < num_partials; ++i) {
    const float2 state = partial_state[first + i];
    total = fmaf(exp2f(state.x - reference), state.y, total);
  }
  for (int d = threadIdx.x % kWarpSize; d < head_dim; d += kWarpSize) {
    float sum = 0;
    for (int i = 0; i < num_partials; ++i) {
      const float weight = exp2f(partial_state[first + i].x - reference);
      sum = fmaf(weight, partial_out[(first + i) * head_dim + d], sum);
    }
    store(out, out_offset + d, sum / total);
  }
}

}  // namespace quire::cuda
