#pragma once

#include "kernels/tensor.h"

namespace quire {

/// Rotation angles of a step, computed once and used by every layer:
///   cos[t, i] = scale * cos(positions[t] * inv_freq[sets[t], i]), sin likewise.
/// The product and its range reduction are in f64: at position 1M an f32 product is off by up to
/// 0.05 rad in the fast pairs. REQUIRES: sets in [0, num_sets).
struct RopeTableParams {
  ConstTensorView positions;  // [num_tokens] i32
  ConstTensorView inv_freq;   // [num_sets, num_pairs] f64
  ConstTensorView sets = {};  // [num_tokens] i32; absent: set 0 for all
  double scale = 1.0;         // attention factor of yarn and longrope; 1 otherwise
  TensorView cos;             // [num_tokens, num_pairs] f32
  TensorView sin;             // [num_tokens, num_pairs] f32
};

/// Rotary embedding in Hugging Face's half-split order, for i < num_pairs:
///   out[i]             = x[i] * cos[i] - x[i + num_pairs] * sin[i]
///   out[i + num_pairs] = x[i + num_pairs] * cos[i] + x[i] * sin[i]
/// in f32, then rounded to out's dtype. Elements from 2 * num_pairs on are rounded as they are: a
/// layer without rotary embedding has num_pairs = 0. Gate and attention read the rounded result.
struct RopeParams {
  ConstTensorView x;    // [num_tokens, num_heads, head_dim] f32, rows may be strided
  ConstTensorView cos;  // [num_tokens, num_pairs] f32, 2 * num_pairs <= head_dim
  ConstTensorView sin;  // [num_tokens, num_pairs] f32
  TensorView out;       // [num_tokens, num_heads, head_dim] bf16 or f32, no alias
};

}  // namespace quire
