#pragma once

#include "kernels/tensor.h"

namespace quire {

/// Chooses one token per row. Penalties and logit_bias are already in the logits.
///
/// temperature == 0: argmax, ties to the LOWER id. Otherwise, with z = logits / temperature:
///   1. top_k > 0: keep the top_k largest z (ties at the edge: lower ids first);
///   2. p = softmax over the kept;
///   3. top_p < 1: in descending p (ties: lower id first) keep the shortest prefix whose sum
///      reaches top_p, at least one token;
///   4. min_p > 0: of those keep p >= min_p * max(p);
///   5. in ascending id order, the first kept token whose running sum of p exceeds
///      uniform * (sum of kept p). Sums in f64.
/// NaN logits count as -inf. If every logit of a row is -inf or NaN, the lowest id is chosen.
/// logprobs[r] = log_softmax(logits[r])[tokens[r]]: temperature 1, no filters, f64 accumulation.
struct SampleParams {
  ConstTensorView logits;       // [num_rows, vocab_size] f32
  ConstTensorView temperature;  // [num_rows] f32, >= 0
  ConstTensorView top_k;        // [num_rows] i32, <= 0 = off
  ConstTensorView top_p;        // [num_rows] f32, (0, 1], 1 = off
  ConstTensorView min_p;        // [num_rows] f32, [0, 1], 0 = off
  ConstTensorView uniform;      // [num_rows] f64 in [0, 1)
  TensorView tokens;            // out [num_rows] i32
  TensorView logprobs;          // out [num_rows] f32
};

}  // namespace quire
