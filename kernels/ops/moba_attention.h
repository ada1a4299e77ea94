#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// Attention over selected blocks:
///   out[t, h, :] = softmax(scale * < query[t, h, :], K >) V
/// over all tokens of the history blocks in selected[t, h, :] and, causally, the tokens of the
/// current block up to the query's own position. The softmax state is f32.
///
/// Partials are merged in a fixed order (history slots ascending, current block last), so on one
/// backend a row's result does not depend on the batch, the chunking, or where blocks lie.
/// Entries of `selected` behind the first -1 are not read as indices.
/// REQUIRES: as produced by moba_gate: ascending, the last valid entry is the current block.
struct MobaAttentionParams {
  ConstTensorView query;  // [num_tokens, num_heads, head_dim] bf16 (f32: has_f32_attention)
  PagedKvView kv;         // k and v are read, and their scales
  RaggedBatchView batch;
  ConstTensorView selected;  // [num_tokens, num_heads, max_selected] i32 logical block indices
  float softmax_scale = 0;   // head_dim^-0.5 unless the model says otherwise
  TensorView out;            // [num_tokens, num_heads, head_dim] bf16 or f32, no alias
};

}  // namespace quire
