#include "kernels/cpu/int8_screen.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/simd_rows.h"
#include "tests/support/without_instructions.h"

// What the screen rules out must be below the threshold, as scored exactly; whatever the numbers.

namespace quire::cpu {
namespace {

constexpr int64_t kRows = 21;

struct Case {
  int64_t head_dim;
  std::vector<BFloat16> query, keys;  // [kRows, head_dim], [kTileKeys, head_dim]
  std::vector<float> offset;
};

/// Normal numbers of dimension i times `scale(i)`; the keys share `common`.
Case make_case(int64_t head_dim, float common, const std::function<float(int64_t)>& scale) {
  std::mt19937 random(static_cast<unsigned>(head_dim));
  std::normal_distribution<float> normal;
  Case c{head_dim, {}, {}, {}};
  for (int64_t i = 0; i < kRows * head_dim; ++i) {
    c.query.push_back(quire::to_bfloat16(normal(random) * scale(i % head_dim)));
  }
  for (int64_t i = 0; i < kTileKeys * head_dim; ++i) {
    c.keys.push_back(quire::to_bfloat16(normal(random) * scale(i % head_dim) + common));
  }
  c.offset.assign(static_cast<size_t>(head_dim), common);
  return c;
}

std::vector<float> exact_scores(const Case& c) {
  std::vector<float> query(static_cast<size_t>(kRows * query_stride(c.head_dim)));
  std::vector<float> packed(static_cast<size_t>(packed_keys_size(c.head_dim)));
  std::vector<float> scores(static_cast<size_t>(kRows * kTileKeys));
  const BFloat16* keys[kTileKeys];
  for (int64_t j = 0; j < kTileKeys; ++j) keys[j] = c.keys.data() + j * c.head_dim;
  for (int64_t r = 0; r < kRows; ++r) {
    pack_query(c.query.data() + r * c.head_dim, c.head_dim,
               query.data() + r * query_stride(c.head_dim));
  }
  pack_keys(keys, kTileKeys, c.head_dim, packed.data());
  score_tile(query.data(), kRows, c.head_dim, packed.data(), scores.data());
  return scores;
}

struct Screened {
  bool is_usable;
  std::vector<uint64_t> masks;
};

/// Row r's threshold is its score against key `at`.
Screened screen(const Case& c, const std::vector<float>& scores, int64_t at) {
  const BFloat16* rows[kTileKeys];
  for (int64_t j = 0; j < kTileKeys; ++j) rows[j] = c.keys.data() + j * c.head_dim;
  ScreenedKeys keys(2 * kTileKeys, c.offset);
  keys.pack(1, rows, kTileKeys);
  ScreenedQueries queries;
  queries.reset(kRows, c.head_dim);
  std::vector<float> thresholds;
  for (int64_t r = 0; r < kRows; ++r) {
    queries.pack(r, c.query.data() + r * c.head_dim, keys);
    thresholds.push_back(scores[static_cast<size_t>(r * kTileKeys + at)]);
  }
  Screened result{keys.is_usable(1), std::vector<uint64_t>(kRows, 0)};
  if (!result.is_usable) return result;
  const uint64_t named = queries.screen(0, keys, 1, thresholds, result.masks.data());
  {
    const test::WithoutAmx without;
    std::vector<uint64_t> masks(kRows);
    CHECK(queries.screen(0, keys, 1, thresholds, masks.data()) == named);
    CHECK(masks == result.masks);
  }
  for (int64_t r = 0; r < kRows; ++r) {
    CHECK((named >> r & 1) == (result.masks[static_cast<size_t>(r)] != 0 ? 1u : 0u));
  }
  return result;
}

/// Scores at or above their row's threshold that the screen ruled out.
int64_t num_missed(const Case& c) {
  const std::vector<float> scores = exact_scores(c);
  int64_t num_missed = 0;
  for (int64_t at = 0; at < kTileKeys; ++at) {
    const Screened screened = screen(c, scores, at);
    if (!screened.is_usable) return 0;
    for (int64_t r = 0; r < kRows; ++r) {
      const float threshold = scores[static_cast<size_t>(r * kTileKeys + at)];
      for (int64_t j = 0; j < kTileKeys; ++j) {
        const bool is_named = (screened.masks[static_cast<size_t>(r)] >> j & 1) != 0;
        const bool counts = !(scores[static_cast<size_t>(r * kTileKeys + j)] < threshold);
        if (counts && !is_named) ++num_missed;
      }
    }
  }
  return num_missed;
}

}  // namespace

TEST_CASE("int8 screen: names every score that is not below its threshold") {
  if (!has_int8_screen()) return;  // this CPU has no such instructions
  const int64_t head_dim = GENERATE(1, 3, 4, 16, 50, 64, 128, 255);
  const float common = GENERATE(0.0f, 3.0f, -1000.0f);
  const auto scale = GENERATE(values<float (*)(int64_t)>({
      [](int64_t) { return 1.0f; },
      [](int64_t i) { return i == 0 ? 500.0f : 1.0f; },  // one dimension is all that 8 bits see
      [](int64_t i) { return std::ldexp(1.0f, static_cast<int>(i % 40) - 20); },
      [](int64_t) { return 1e-30f; },
      [](int64_t) { return 1e-39f; },  // denormal
      [](int64_t) { return 1e10f; },
      [](int64_t) { return 0.0f; },
  }));
  CAPTURE(head_dim, common, scale(0), scale(1));
  CHECK(num_missed(make_case(head_dim, common, scale)) == 0);
}

TEST_CASE("int8 screen: an offset far from the keys costs sharpness, never a score") {
  if (!has_int8_screen()) return;
  Case c = make_case(64, 2.0f, [](int64_t) { return 1.0f; });
  for (size_t i = 0; i < c.offset.size(); ++i) c.offset[i] = i % 3 == 0 ? -1e6f : 7.0f;
  CHECK(num_missed(c) == 0);
}

TEST_CASE("int8 screen: rules out most of what is below") {
  if (!has_int8_screen()) return;
  // With 20 standard deviations in common, the screen works because the offset takes them out.
  const Case c = make_case(64, 20.0f, [](int64_t) { return 1.0f; });
  const std::vector<float> scores = exact_scores(c);
  const Screened screened = screen(c, scores, 0);
  REQUIRE(screened.is_usable);
  int64_t num_named = 0, num_above = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    num_named += std::popcount(screened.masks[static_cast<size_t>(r)]);
    for (int64_t j = 0; j < kTileKeys; ++j) {
      const auto row = static_cast<size_t>(r * kTileKeys);
      if (!(scores[row + static_cast<size_t>(j)] < scores[row])) ++num_above;
    }
  }
  // Rounding moves a score by a tenth of the scores' deviation at most, so it names a tenth of a
  // deviation's worth of normal scores too many: 4%, 8% allowed.
  CHECK(num_named >= num_above);
  CHECK(num_named <= num_above + kRows * kTileKeys * 8 / 100);
}

TEST_CASE(
    "int8 screen: a tile with what no bound holds for is not usable, a row names everything") {
  if (!has_int8_screen()) return;
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(),
                             std::numeric_limits<float>::infinity(), -3e38f);
  const Case good = make_case(64, 0.0f, [](int64_t) { return 1.0f; });
  const std::vector<float> scores = exact_scores(good);
  Case bad_key = good, bad_query = good;
  bad_key.keys[64 * 17 + 5] = quire::to_bfloat16(bad);
  CHECK_FALSE(screen(bad_key, scores, 0).is_usable);
  bad_query.query[64 * 2 + 1] = quire::to_bfloat16(bad);
  const Screened screened = screen(bad_query, scores, 0);
  CHECK(screened.masks[2] == ~uint64_t{0});
  CHECK(screened.masks[1] == screen(good, scores, 0).masks[1]);
}

}  // namespace quire::cpu
