#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// The centroid of every selection unit of one stage that this step completed
/// (selection_schedule.h). For unit n, whose blocks are members[n, :] in the order of the sequence,
///   unit_centroids[stage, members[n, group - 1], g, :] =
///       round_to_bf16( (sum over i of centroids[members[n, i], g, :]) * (1 / group) )
/// in f32, added in index order. It is kept with the unit's last block, so it exists once, never
/// changes, and comes along when the prefix cache finds that block: what precedes a block is fixed
/// by its prefix, and so is its place in a unit.
/// REQUIRES: seal_blocks has run for all members, of which a prefix hit may have brought some.
struct SealUnitsParams {
  PagedKvView kv;           // centroids read, unit_centroids written
  int32_t stage = 0;        // of the schedule
  ConstTensorView members;  // [num_units, group] i32 block ids
};

}  // namespace quire
