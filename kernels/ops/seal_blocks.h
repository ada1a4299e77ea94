#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// Number of consecutive tokens whose keys are summed before the sub-sums are added. Part of the
/// semantics, not a tuning knob: it fixes the rounding of every centroid (moba-spec: "sum order").
inline constexpr int kCentroidRun = 128;

/// The digest of every block that this step filled. With kv.digest kMean, its centroid:
///   centroids[b, g, :] = round_to_bf16( (sum over the block of kv.k[b, g, j, :]) * (1 /
///   block_size) )
/// where an int8 key stands for the number it holds, kv.k[b, g, j, :] * kv.k_scales[b, g, j], all
/// in f32: sub-sums over runs of kCentroidRun tokens in token order, added in index order. The
/// reference follows the same order in f32, so that all backends agree to the last bit.
/// With another digest, centroids[b, g, :] = make_digest (block_digest.h) of the same numbers, with
/// the same promise.
/// REQUIRES: append_kv has filled the blocks completely.
struct SealBlocksParams {
  PagedKvView kv;             // k and its scales read, centroids written
  ConstTensorView block_ids;  // [num_sealed] i32, distinct
};

}  // namespace quire
