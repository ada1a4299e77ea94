#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// Causal attention over every token up to the query's own position, read through the block table:
///   out[t, h, :] = softmax(scale * < query[t, h, :], K[0..p] >) V,  f32 softmax state.
/// Row-independent and invariant to batch, chunking and block placement, as moba_attention is.
struct FullAttentionParams {
  ConstTensorView query;  // [num_tokens, num_heads, head_dim] bf16
  PagedKvView kv;         // k and v are read, and their scales; centroids never
  RaggedBatchView batch;
  float softmax_scale = 0;  // head_dim^-0.5 unless the model says otherwise
  TensorView out;           // [num_tokens, num_heads, head_dim] bf16 or f32, no alias
};

}  // namespace quire
