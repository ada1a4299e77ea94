#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/simd_rows.h"
#include "tests/support/instruction_paths.h"

// The score functions of the cpu backend on every instruction path, beneath the ops that use them.

namespace quire::cpu {
namespace {

struct Case {
  int64_t num_rows, num_keys, head_dim;
  std::vector<BFloat16> query, keys;  // [num_rows, head_dim], [num_keys, head_dim]

  double expected(int64_t r, int64_t j) const {
    double sum = 0;
    for (int64_t i = 0; i < head_dim && j < num_keys; ++i) {
      sum += static_cast<double>(quire::to_float(query[static_cast<size_t>(r * head_dim + i)])) *
             quire::to_float(keys[static_cast<size_t>(j * head_dim + i)]);
    }
    return sum;
  }
};

Case random_case(int64_t num_rows, int64_t num_keys, int64_t head_dim) {
  std::mt19937 random(static_cast<unsigned>(num_rows * 1000 + num_keys * 10 + head_dim));
  std::normal_distribution<float> normal;
  Case c{num_rows, num_keys, head_dim, {}, {}};
  for (int64_t i = 0; i < num_rows * head_dim; ++i)
    c.query.push_back(quire::to_bfloat16(normal(random)));
  for (int64_t i = 0; i < num_keys * head_dim; ++i)
    c.keys.push_back(quire::to_bfloat16(normal(random)));
  return c;
}

struct Packed {
  explicit Packed(const Case& c)
      : query(static_cast<size_t>(c.num_rows * query_stride(c.head_dim))),
        keys(static_cast<size_t>(packed_keys_size(c.head_dim))) {
    for (int64_t r = 0; r < c.num_rows; ++r) {
      pack_query(c.query.data() + r * c.head_dim, c.head_dim,
                 query.data() + r * query_stride(c.head_dim));
    }
    const BFloat16* rows[kTileKeys];
    for (int64_t j = 0; j < c.num_keys; ++j) rows[j] = c.keys.data() + j * c.head_dim;
    pack_keys(rows, c.num_keys, c.head_dim, keys.data());
  }
  std::vector<float> query, keys;
};

std::vector<float> scores_of(const Case& c) {
  const Packed packed(c);
  std::vector<float> scores(static_cast<size_t>(c.num_rows * kTileKeys));
  score_tile(packed.query.data(), c.num_rows, c.head_dim, packed.keys.data(), scores.data());
  return scores;
}

}  // namespace

TEST_CASE("cpu scores: exact products, f32 sums, zeros behind the last key", "[cpu_scores]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const int64_t head_dim = GENERATE(1, 2, 7, 31, 32, 33, 64, 80, 128, 255);
  const int64_t num_rows = GENERATE(1, 2, 5, 6, 7, 13);
  const int64_t num_keys = GENERATE(1, 17, 64);
  const Case c = random_case(num_rows, num_keys, head_dim);
  const std::vector<float> scores = scores_of(c);
  // Sums of head_dim normal products: each of at most head_dim additions rounds by 2^-24 of a
  // partial sum, whose size is about sqrt(head_dim).
  const double tolerance = std::ldexp(static_cast<double>(head_dim), -21) + 1e-6;
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t j = 0; j < kTileKeys; ++j) {
      const float score = scores[static_cast<size_t>(r * kTileKeys + j)];
      if (!(std::abs(score - c.expected(r, j)) <= tolerance)) {
        FAIL("row " << r << ", key " << j << ": " << score << " for " << c.expected(r, j));
      }
    }
  }
}

TEST_CASE("cpu scores: a row's bits do not depend on the rows beside it", "[cpu_scores]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const Case all = random_case(13, 50, 64);
  const std::vector<float> together = scores_of(all);
  for (int64_t r = 0; r < all.num_rows; ++r) {
    Case alone{1, all.num_keys, all.head_dim, {}, all.keys};
    alone.query.assign(all.query.begin() + r * 64, all.query.begin() + (r + 1) * 64);
    const std::vector<float> scores = scores_of(alone);
    CHECK(std::equal(scores.begin(), scores.end(), together.begin() + r * kTileKeys));
  }
}

TEST_CASE("cpu scores: a pair by itself has the bits it has in a tile", "[cpu_scores]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const int64_t head_dim = GENERATE(1, 7, 32, 33, 64, 80, 128);
  const int64_t num_pairs = GENERATE(1, 9, 16);
  const Case c = random_case(16, 50, head_dim);
  const Packed packed(c);
  const std::vector<float> together = scores_of(c);
  const float* queries[kMaxPairs];
  const BFloat16* keys[kMaxPairs];
  float scores[kMaxPairs];
  for (int64_t i = 0; i < num_pairs; ++i) {
    queries[i] = packed.query.data() + i * query_stride(head_dim);
    keys[i] = c.keys.data() + (i * 7 % 50) * head_dim;
  }
  score_pairs(queries, keys, num_pairs, head_dim, scores);
  for (int64_t i = 0; i < num_pairs; ++i) {
    CHECK(scores[i] == together[static_cast<size_t>(i * kTileKeys + i * 7 % 50)]);
  }
}

TEST_CASE("cpu scores: a mask has the scores that are not below the threshold", "[cpu_scores]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  Case c = random_case(9, 64, 64);
  c.keys[64 * 20] = quire::to_bfloat16(std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> scores = scores_of(c);
  const Packed packed(c);
  std::vector<float> thresholds, kept(scores.size(), -1.0f);
  for (int64_t r = 0; r < c.num_rows; ++r) {
    thresholds.push_back(scores[static_cast<size_t>(r * kTileKeys + 5 * r)]);  // one score itself
  }
  thresholds[0] = -std::numeric_limits<float>::infinity();
  std::vector<uint64_t> masks(static_cast<size_t>(c.num_rows));
  score_above(packed.query.data(), c.num_rows, c.head_dim, packed.keys.data(), thresholds.data(),
              kept.data(), masks.data());
  CHECK(masks[0] == ~uint64_t{0});
  for (int64_t r = 0; r < c.num_rows; ++r) {
    for (int64_t j = 0; j < kTileKeys; ++j) {
      const auto i = static_cast<size_t>(r * kTileKeys + j);
      const bool is_kept = !(scores[i] < thresholds[static_cast<size_t>(r)]);
      CHECK((masks[static_cast<size_t>(r)] >> j & 1) == (is_kept ? 1u : 0u));
      if (is_kept && !std::isnan(scores[i])) CHECK(kept[i] == scores[i]);
    }
  }
}

TEST_CASE("cpu scores: few rows in place keep the bits and masks of packed tiles", "[cpu_scores]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const int64_t head_dim = GENERATE(32, 64, 96, 128);
  const int64_t num_rows = GENERATE(1, 2, 3, 4);
  const int64_t num_keys = GENERATE(1, 16, 17, 50, 64);
  REQUIRE(scores_in_place(num_rows, head_dim) == path.bf16_dot);
  if (!path.bf16_dot) return;
  const Case c = random_case(num_rows, num_keys, head_dim);
  const Packed packed(c);
  const std::vector<float> scores = scores_of(c);
  std::vector<float> thresholds, kept(scores.size(), -1.0f);
  for (int64_t r = 0; r < num_rows; ++r) {
    thresholds.push_back(scores[static_cast<size_t>(r * kTileKeys + r % num_keys)]);
  }
  constexpr int64_t kOffset = 3;  // from what is pointed at to the keys
  const BFloat16* keys[kTileKeys];
  for (int64_t j = 0; j < num_keys; ++j) keys[j] = c.keys.data() + j * head_dim - kOffset;
  uint64_t masks[kMaxFewRows];
  score_above_in_place({.query = packed.query.data(),
                        .num_rows = num_rows,
                        .head_dim = head_dim,
                        .keys = keys,
                        .upcoming = keys,
                        .offset = kOffset,
                        .num_keys = num_keys,
                        .thresholds = thresholds.data()},
                       kept.data(), masks);
  for (int64_t r = 0; r < num_rows; ++r) {
    for (int64_t j = 0; j < num_keys; ++j) {
      const auto i = static_cast<size_t>(r * kTileKeys + j);
      const bool is_kept = !(scores[i] < thresholds[static_cast<size_t>(r)]);
      CHECK((masks[r] >> j & 1) == (is_kept ? 1u : 0u));
      if (is_kept) CHECK(kept[i] == scores[i]);
    }
  }
}

}  // namespace quire::cpu
