#include "kernels/block_digest.h"

#include <algorithm>
#include <cmath>

#include "kernels/bfloat16.h"
#include "kernels/check.h"
#include "kernels/ops/seal_blocks.h"

namespace quire {
namespace {

/// The mean over `num_keys` of `term(key)`, summed in runs of kCentroidRun.
template <class Term>
float mean_in_runs(int64_t num_keys, const Term& term) {
  float total = 0;
  for (int64_t run = 0; run < num_keys; run += kCentroidRun) {
    float sum = 0;
    const int64_t end = std::min(num_keys, run + kCentroidRun);
    for (int64_t key = run; key < end; ++key) sum += term(key);
    total += sum;
  }
  return total * (1.0f / static_cast<float>(num_keys));
}

}  // namespace

std::string_view digest_name(BlockDigest digest) {
  constexpr std::array<std::string_view, kBlockDigests.size()> kNames = {"mean", "bounds",
                                                                         "cuboid-mean"};
  return kNames.at(static_cast<size_t>(digest));
}

int64_t digest_dim(BlockDigest digest, int64_t head_dim) {
  return digest == BlockDigest::kMean ? head_dim : 2 * head_dim;
}

void make_digest(BlockDigest digest, std::span<const float> keys, int64_t head_dim,
                 std::span<float> out) {
  const auto num_keys = static_cast<int64_t>(keys.size()) / head_dim;
  QUIRE_CHECK(num_keys >= 1 && num_keys * head_dim == static_cast<int64_t>(keys.size()) &&
              static_cast<int64_t>(out.size()) == digest_dim(digest, head_dim))
      << keys.size() << " numbers are no keys of " << head_dim << " for a digest of " << out.size();
  for (int64_t i = 0; i < head_dim; ++i) {
    const auto component = [&](int64_t key) {
      return keys[static_cast<size_t>(key * head_dim + i)];
    };
    const auto lower = static_cast<size_t>(i), upper = static_cast<size_t>(head_dim + i);
    if (digest == BlockDigest::kMean) {
      out[lower] = round_to_bfloat16(mean_in_runs(num_keys, component));
      continue;
    }
    float low = component(0), high = component(0);
    for (int64_t key = 1; key < num_keys; ++key) {
      low = std::min(low, component(key));
      high = std::max(high, component(key));
    }
    if (digest == BlockDigest::kCuboidMean) {
      const float centre = (low + high) / 2;
      const float radius =
          mean_in_runs(num_keys, [&](int64_t key) { return std::abs(component(key) - centre); });
      low = centre - radius;
      high = centre + radius;
    }
    out[lower] = round_to_bfloat16(low);
    out[upper] = round_to_bfloat16(high);
  }
}

void expand_query(BlockDigest digest, std::span<const float> query, std::span<float> out) {
  const auto head_dim = query.size();
  QUIRE_CHECK(static_cast<int64_t>(out.size()) ==
              digest_dim(digest, static_cast<int64_t>(head_dim)))
      << "a query of " << head_dim << " for a digest of " << out.size();
  if (digest == BlockDigest::kMean) {
    std::copy(query.begin(), query.end(), out.begin());
    return;
  }
  for (size_t i = 0; i < head_dim; ++i) {
    out[i] = std::min(query[i], 0.0f);
    out[head_dim + i] = std::max(query[i], 0.0f);
  }
}

}  // namespace quire
