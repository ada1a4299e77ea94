#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// MoBA's routing (arXiv 2502.13189). For the token at position p of sequence s and query head h,
/// with g = h / group_size and b = p / block_size (the current block):
///   score[i] = < query[t, h, :], centroids[block_table[i], g, :] >   for every i < b, f32
///   history  = the min(top_k[s] - 1, b) blocks with the largest score
///   selected = history and b, ascending, padded with -1 at the end
///
/// Ties go to the HIGHER block index (the most recent). A NaN score counts as -inf. The score is
/// not scaled. Where b <= top_k - 1 everything is selected and no centroid is read.
/// A score of one (token, head, block) does not depend on the rest of the batch, bit for bit.
/// REQUIRES: seal_blocks has run for every block i < b; top_k[s] in [1, selected.shape[2]].
struct MobaGateParams {
  ConstTensorView query;  // [num_tokens, num_heads, head_dim] bf16, post-RoPE
  PagedKvView kv;         // only centroids are read
  RaggedBatchView batch;
  ConstTensorView top_k;  // [num_seqs] i32, blocks per (token, head), the current block included
  TensorView selected;    // out [num_tokens, num_heads, max_top_k] i32 logical block indices
};

}  // namespace quire
