#pragma once

#include "kernels/tensor.h"

namespace quire {

/// SwiGLU's product: out[t, i] = silu(gate_up[t, i]) * gate_up[t, width + i], silu(x) = x / (1 +
/// e^-x).
struct SiluMulParams {
  ConstTensorView gate_up;  // [num_tokens, 2 * width] f32: gate, then up
  TensorView out;           // [num_tokens, width] bf16 or f32, no alias
};

}  // namespace quire
