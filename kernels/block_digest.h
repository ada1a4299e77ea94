#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/bfloat16.h"

namespace quire {

/// What stands for a block of keys where a query chooses blocks, and how the query scores it. Every
/// digest is a vector, and every score a dot product with what `expand_query` makes of the query.
enum class BlockDigest : uint8_t {
  /// MoBA (arXiv 2502.13189): the mean of the keys; score = <q, mean>.
  kMean,
  /// Quest (arXiv 2406.10774): the smallest and the largest of every component;
  /// score = sum_i max(q_i lo_i, q_i hi_i), which no key of the block exceeds.
  kBounds,
  /// ArkVale (NeurIPS 2024): about the middle c = (lo + hi) / 2 of those bounds, the mean distance
  /// r_i of the keys' components from it; score as for bounds of c - r and c + r.
  kCuboidMean,
};
inline constexpr std::array kBlockDigests = {BlockDigest::kMean, BlockDigest::kBounds,
                                             BlockDigest::kCuboidMean};

/// As flags and model folders spell it.
std::string_view digest_name(BlockDigest digest);
/// Nothing for a name that is none.
std::optional<BlockDigest> digest_named(std::string_view name);

/// Components of a digest: head_dim, or twice as many (the lower bounds, then the upper ones).
constexpr int64_t digest_dim(BlockDigest digest, int64_t head_dim) {
  return digest == BlockDigest::kMean ? head_dim : 2 * head_dim;
}

/// The digest of `keys` [num_keys, head_dim], num_keys >= 1, as the cache keeps it: every component
/// of `out` [digest_dim] rounded to bf16. Sums are f32 in the order of seal_blocks.h, so that the
/// mean is the centroid of that contract to the last bit. A component that is NaN in any key is NaN
/// in the digest.
void make_digest(BlockDigest digest, std::span<const float> keys, int64_t head_dim,
                 std::span<float> out);

/// `out` [digest_dim] with <out, digest> = the score of `query` [head_dim]: the query itself, or
/// its negative components (which meet the lower bounds) and then its positive ones.
void expand_query(BlockDigest digest, std::span<const float> query, std::span<float> out);
void expand_query(BlockDigest digest, std::span<const BFloat16> query, std::span<BFloat16> out);

}  // namespace quire
