#include "kernels/block_digest.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/bfloat16.h"

namespace quire::test {
namespace {

std::vector<float> digest_of(BlockDigest digest, const std::vector<float>& keys, int64_t head_dim) {
  std::vector<float> out(static_cast<size_t>(digest_dim(digest, head_dim)));
  make_digest(digest, keys, head_dim, out);
  return out;
}

float score(BlockDigest digest, const std::vector<float>& query, const std::vector<float>& keys) {
  const std::vector<float> summary = digest_of(digest, keys, static_cast<int64_t>(query.size()));
  std::vector<float> expanded(summary.size());
  expand_query(digest, query, expanded);
  return std::inner_product(expanded.begin(), expanded.end(), summary.begin(), 0.0f);
}

TEST_CASE("a block's digests, by hand") {
  // Four keys of two components.
  const std::vector<float> keys = {0, -2, 1, 4, 1, -2, 8, 0};
  CHECK(digest_of(BlockDigest::kMean, keys, 2) == std::vector<float>{2.5f, 0});
  CHECK(digest_of(BlockDigest::kBounds, keys, 2) == std::vector<float>{0, -2, 8, 4});
  // Middles 4 and 1; mean distances (4 + 3 + 3 + 4) / 4 and (3 + 3 + 3 + 1) / 4.
  CHECK(digest_of(BlockDigest::kCuboidMean, keys, 2) ==
        std::vector<float>{0.5f, -1.5f, 7.5f, 3.5f});

  CHECK(score(BlockDigest::kMean, {2, -1}, keys) == 5);
  CHECK(score(BlockDigest::kBounds, {2, -1}, keys) == 2 * 8 + 2);
  CHECK(score(BlockDigest::kCuboidMean, {2, -1}, keys) == 2 * 7.5f + 1.5f);
  CHECK(score(BlockDigest::kBounds, {-2, 1}, keys) == 0 + 4);
}

TEST_CASE("no key of a block has a higher score than the block's bounds") {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  constexpr size_t kHeadDim = 16, kNumKeys = 37;
  for (int round = 0; round < 20; ++round) {
    std::vector<float> query(kHeadDim), keys(kHeadDim * kNumKeys);
    // What bf16 holds, with few enough digits for f32 to add it up exactly.
    for (float& x : query) x = std::round(normal(random) * 8) / 8;
    for (float& x : keys) x = std::round(normal(random) * 8) / 8;
    const float bound = score(BlockDigest::kBounds, query, keys);
    float best = -std::numeric_limits<float>::infinity();
    for (size_t key = 0; key < kNumKeys; ++key) {
      best = std::max(best, std::inner_product(query.begin(), query.end(),
                                               keys.begin() + key * kHeadDim, 0.0f));
    }
    CHECK(best <= bound);
    CHECK(score(BlockDigest::kMean, query, keys) <= best);
  }
}

TEST_CASE("a block of one key is its own digest, whatever the digest") {
  const std::vector<float> query = {1, -2, 0.5f}, key = {3, 1, -4};
  for (const BlockDigest digest : kBlockDigests) {
    CAPTURE(digest_name(digest));
    CHECK(score(digest, query, key) == -1);
  }
}

TEST_CASE("a NaN in a key is a NaN in the block's digest, whichever key it is") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const BlockDigest digest : kBlockDigests) {
    for (size_t place = 0; place < 6; place += 2) {
      CAPTURE(digest_name(digest), place);
      std::vector<float> keys = {1, 2, 3, 4, 5, 6};
      keys[place] = kNan;
      const std::vector<float> summary = digest_of(digest, keys, 2);
      for (size_t i = 0; i < summary.size(); ++i) CHECK(std::isnan(summary[i]) == (i % 2 == 0));
    }
  }
}

TEST_CASE("a digest is known by its name") {
  for (const BlockDigest digest : kBlockDigests) CHECK(digest_named(digest_name(digest)) == digest);
  for (const std::string_view name : {"", "Mean", "bound", "cuboid_mean", "mean "}) {
    CHECK_FALSE(digest_named(name));
  }
}

TEST_CASE("a query is expanded the same in f32 and in bf16") {
  const std::vector<float> query = {2, -1, 0, -0.0f, std::numeric_limits<float>::quiet_NaN()};
  std::vector<BFloat16> narrow;
  for (const float x : query) narrow.push_back(to_bfloat16(x));
  for (const BlockDigest digest : kBlockDigests) {
    CAPTURE(digest_name(digest));
    std::vector<float> wide(static_cast<size_t>(digest_dim(digest, 5)));
    std::vector<BFloat16> expanded(wide.size());
    expand_query(digest, query, wide);
    expand_query(digest, narrow, expanded);
    for (size_t i = 0; i < wide.size(); ++i) CHECK(expanded[i] == to_bfloat16(wide[i]));
  }
}

}  // namespace
}  // namespace quire::test
