#pragma once

#include "kernels/tensor.h"

namespace quire {

/// Root mean square norm (Zhang and Sennrich 2019), optionally after adding a residual:
///   x = x + delta            (only when delta.data is set; x is written back)
///   out = x / sqrt(mean(x^2) + epsilon) * weight
struct RmsNormParams {
  TensorView x;            // [num_rows, width] f32, in and out
  ConstTensorView delta;   // [num_rows, width] f32 or data == nullptr
  ConstTensorView weight;  // [width] bf16 or f32
  float epsilon = 1e-5f;
  TensorView out;  // [num_rows, width] bf16 or f32, no alias
};

}  // namespace quire
