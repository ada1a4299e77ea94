#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// Causal attention over every token up to the query's own position p, read through the block
/// table, or over the last `window` of them, the token itself included:
///   out[t, h, :] = softmax(scale * < query[t, h, :], K[first..p] >) V,  f32 softmax state,
///   first = window == 0 ? 0 : max(0, p - window + 1)
/// Row-independent and invariant to batch, chunking and block placement, as moba_attention is.
struct FullAttentionParams {
  ConstTensorView query;  // [num_tokens, num_heads, head_dim] bf16 (f32: has_f32_attention)
  PagedKvView kv;         // k and v are read, and their scales; centroids never
  RaggedBatchView batch;
  float softmax_scale = 0;  // head_dim^-0.5 unless the model says otherwise
  TensorView out;           // [num_tokens, num_heads, head_dim] bf16 or f32, no alias
  int32_t window = 0;       // tokens that a query sees; 0: all
};

}  // namespace quire
