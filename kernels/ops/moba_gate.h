#pragma once

#include "kernels/paged_kv.h"
#include "kernels/selection_schedule.h"

namespace quire {

/// MoBA's routing (arXiv 2502.13189). For the token at position p of sequence s and query head h,
/// with g = h / group_size, by schedule.rule_at(p, top_k[s]) in units of `group` blocks (one block,
/// without a schedule), of which u = p / (group * block_size) is the token's own:
///   score[i] = < query[t, h, :], C[i, g, :] >   for every i < u, f32
///   history  = the min(rule.top_k - 1, u) units with the largest score
///   selected = the blocks of history's units, and those of unit u up to the token's own block,
///              ascending, padded with -1 at the end
/// where C[i] is the centroid of block i, or kv.unit_centroids of that stage at the unit's last
/// block, block_table[(i + 1) * group - 1]. With a kv.digest other than the mean (and then without
/// a schedule)
///   score[i] = < expand_query(query[t, h, :]), centroids[i, g, :] >   over digest_dim components
/// (block_digest.h).
///
/// Ties go to the HIGHER unit index (the most recent). A NaN score counts as -inf. The score is
/// not scaled. Where u <= rule.top_k - 1 everything is selected and no centroid is read.
/// A score of one (token, head, unit) does not depend on the rest of the batch, bit for bit.
/// REQUIRES: seal_blocks, and seal_units of every stage, have run for what was completed before a
/// query's own unit; top_k[s] >= 1; every row has rule.top_k * rule.group <= max_selected.
struct MobaGateParams {
  // [num_tokens, num_heads, head_dim] bf16 (f32: has_f32_attention), post-RoPE
  ConstTensorView query;
  PagedKvView kv;  // only centroids and unit_centroids are read
  RaggedBatchView batch;
  ConstTensorView top_k;  // [num_seqs] i32, units per (token, head), the token's own included
  TensorView selected;    // out [num_tokens, num_heads, max_selected] i32 logical block indices
  SelectionSchedule schedule = {};
};

}  // namespace quire
