#include "kernels/block_digest.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/check.h"
#include "kernels/ops/seal_blocks.h"

// Loops run over the keys first and over the components inside: a component's sum has the same
// order as by itself, and neighbours are summed side by side.

namespace quire {
namespace {

/// Keys of one block, [num_keys, head_dim].
struct Keys {
  const float* values;
  int64_t num_keys, head_dim;

  const float* operator[](int64_t key) const { return values + key * head_dim; }
};

/// out[i] = the mean over the keys of `term(key[i], i)`, summed in runs of kCentroidRun.
template <class Term>
void mean_in_runs(const Keys& keys, const Term& term, float* out) {
  const auto width = static_cast<size_t>(keys.head_dim);
  std::vector<float> run_sum(width);
  std::fill_n(out, width, 0.0f);
  for (int64_t run = 0; run < keys.num_keys; run += kCentroidRun) {
    std::fill(run_sum.begin(), run_sum.end(), 0.0f);
    const int64_t end = std::min(keys.num_keys, run + kCentroidRun);
    for (int64_t key = run; key < end; ++key) {
      for (size_t i = 0; i < width; ++i) run_sum[i] += term(keys[key][i], i);
    }
    for (size_t i = 0; i < width; ++i) out[i] += run_sum[i];
  }
  const float inverse = 1.0f / static_cast<float>(keys.num_keys);
  for (size_t i = 0; i < width; ++i) out[i] *= inverse;
}

/// The smallest and the largest of every component; NaN once there was one.
void bounds(const Keys& keys, float* low, float* high) {
  std::copy_n(keys[0], keys.head_dim, low);
  std::copy_n(keys[0], keys.head_dim, high);
  for (int64_t key = 1; key < keys.num_keys; ++key) {
    for (int64_t i = 0; i < keys.head_dim; ++i) {
      const float x = keys[key][i];
      low[i] = x < low[i] || x != x ? x : low[i];
      high[i] = x > high[i] || x != x ? x : high[i];
    }
  }
}

/// From bounds to the cuboid about the same middle.
void draw_in(const Keys& keys, float* low, float* high) {
  const auto width = static_cast<size_t>(keys.head_dim);
  std::vector<float> centre(width), radius(width);
  for (size_t i = 0; i < width; ++i) centre[i] = (low[i] + high[i]) / 2;
  mean_in_runs(
      keys, [&](float x, size_t i) { return std::abs(x - centre[i]); }, radius.data());
  for (size_t i = 0; i < width; ++i) {
    low[i] = centre[i] - radius[i];
    high[i] = centre[i] + radius[i];
  }
}

template <class Number, class ToFloat>
void expand(BlockDigest digest, std::span<const Number> query, std::span<Number> out,
            const ToFloat& number) {
  const size_t head_dim = query.size();
  QUIRE_CHECK(static_cast<int64_t>(out.size()) ==
              digest_dim(digest, static_cast<int64_t>(head_dim)))
      << "a query of " << head_dim << " for a digest of " << out.size();
  if (digest == BlockDigest::kMean) {
    std::copy(query.begin(), query.end(), out.begin());
    return;
  }
  // NaN goes to both sides.
  for (size_t i = 0; i < head_dim; ++i) {
    out[i] = number(query[i]) > 0 ? Number{} : query[i];
    out[head_dim + i] = number(query[i]) < 0 ? Number{} : query[i];
  }
}

}  // namespace

std::string_view digest_name(BlockDigest digest) {
  constexpr std::array<std::string_view, kBlockDigests.size()> kNames = {"mean", "bounds",
                                                                         "cuboid-mean"};
  return kNames.at(static_cast<size_t>(digest));
}

std::optional<BlockDigest> digest_named(std::string_view name) {
  for (const BlockDigest digest : kBlockDigests) {
    if (digest_name(digest) == name) return digest;
  }
  return std::nullopt;
}

void make_digest(BlockDigest digest, std::span<const float> keys, int64_t head_dim,
                 std::span<float> out) {
  const Keys block{keys.data(), static_cast<int64_t>(keys.size()) / head_dim, head_dim};
  QUIRE_CHECK(block.num_keys >= 1 &&
              block.num_keys * head_dim == static_cast<int64_t>(keys.size()) &&
              static_cast<int64_t>(out.size()) == digest_dim(digest, head_dim))
      << keys.size() << " numbers are no keys of " << head_dim << " for a digest of " << out.size();
  if (digest == BlockDigest::kMean) {
    mean_in_runs(
        block, [](float x, size_t) { return x; }, out.data());
  } else {
    bounds(block, out.data(), out.data() + head_dim);
    if (digest == BlockDigest::kCuboidMean) draw_in(block, out.data(), out.data() + head_dim);
  }
  for (float& x : out) x = round_to_bfloat16(x);
}

void expand_query(BlockDigest digest, std::span<const float> query, std::span<float> out) {
  expand(digest, query, out, [](float x) { return x; });
}

void expand_query(BlockDigest digest, std::span<const BFloat16> query, std::span<BFloat16> out) {
  expand(digest, query, out, [](BFloat16 x) { return to_float(x); });
}

}  // namespace quire
