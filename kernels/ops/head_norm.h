#pragma once

#include "kernels/tensor.h"

namespace quire {

/// Root mean square norm of every head's vector by itself, as Qwen3 has it before the rotation:
///   x[t, h, :] = x[t, h, :] / sqrt(mean(x[t, h, :]^2) + epsilon) * weight
struct HeadNormParams {
  TensorView x;            // [num_tokens, num_heads, head_dim] f32, in and out; may be strided
  ConstTensorView weight;  // [head_dim] bf16 or f32, the same for all heads
  float epsilon = 1e-5f;
};

}  // namespace quire
