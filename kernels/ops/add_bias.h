#pragma once

#include "kernels/tensor.h"

namespace quire {

/// A projection's bias: x[t, i] = x[t, i] + float(bias[i]), one f32 sum per element.
struct AddBiasParams {
  TensorView x;          // [num_rows, width] f32, in and out; rows may be strided
  ConstTensorView bias;  // [width] bf16 or f32
};

}  // namespace quire
