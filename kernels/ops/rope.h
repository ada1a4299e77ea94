#pragma once

#include "kernels/tensor.h"

namespace quire {

/// Rotation angles of a step, computed once and used by every layer:
///   cos[t, i] = scale * cos(positions[t] * inv_freq[i]), sin likewise.
/// The product and its range reduction are in f64: at position 1M an f32 product is off by up to
/// 0.05 rad in the fast pairs.
struct RopeTableParams {
  ConstTensorView positions;  // [num_tokens] i32
  ConstTensorView inv_freq;   // [head_dim / 2] f64
  double scale = 1.0;         // attention factor of yarn and longrope; 1 otherwise
  TensorView cos;             // [num_tokens, head_dim / 2] f32
  TensorView sin;             // [num_tokens, head_dim / 2] f32
};

/// Rotary embedding in Hugging Face's half-split order, for i < head_dim / 2:
///   out[i]            = x[i] * cos[i] - x[i + head_dim/2] * sin[i]
///   out[i+head_dim/2] = x[i + head_dim/2] * cos[i] + x[i] * sin[i]
/// in f32, then rounded to out's dtype. Gate and attention both read the rounded result.
struct RopeParams {
  ConstTensorView x;    // [num_tokens, num_heads, head_dim] f32, rows may be strided
  ConstTensorView cos;  // [num_tokens, head_dim / 2] f32
  ConstTensorView sin;  // [num_tokens, head_dim / 2] f32
  TensorView out;       // [num_tokens, num_heads, head_dim] bf16 or f32, no alias
};

}  // namespace quire
