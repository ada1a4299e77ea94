#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/attention_tile.h"
#include "tests/support/instruction_paths.h"

// The inner kernel of the cpu backend's attention on every instruction path, beneath the ops that
// use it.

namespace quire::cpu {
namespace {

constexpr float kScale = 0.25f;

/// Rows that see the first limits[r] of some keys, which come in tiles.
struct Case {
  int64_t num_keys, head_dim;
  std::vector<int32_t> limits;
  std::vector<BFloat16> query, keys, values;
  std::vector<float> key_scales = {};  // [kTileKeys], of every tile; or none

  int64_t num_rows() const { return static_cast<int64_t>(limits.size()); }
  double at(const std::vector<BFloat16>& rows, int64_t row, int64_t i) const {
    return static_cast<double>(quire::to_float(rows[static_cast<size_t>(row * head_dim + i)]));
  }
  std::vector<double> weights(int64_t r) const {
    std::vector<double> scores;
    for (int64_t j = 0; j < limits[static_cast<size_t>(r)]; ++j) {
      double score = 0;
      for (int64_t i = 0; i < head_dim; ++i) score += at(query, r, i) * at(keys, j, i);
      scores.push_back(score * static_cast<double>(kScale));
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    for (double& score : scores) score = std::exp(score - max);
    return scores;
  }
};

Case random_case(int64_t num_rows, int64_t num_keys, int64_t head_dim) {
  std::mt19937 random(static_cast<unsigned>(num_rows * 1000 + num_keys * 10 + head_dim));
  std::normal_distribution<float> normal;
  Case c{num_keys, head_dim, {}, {}, {}, {}, {}};
  for (int64_t r = 0; r < num_rows; ++r) {
    // Whole, odd, even, one: in one strip of rows.
    c.limits.push_back(static_cast<int32_t>(std::max<int64_t>(num_keys - r * r, 1)));
  }
  const auto fill = [&](std::vector<BFloat16>& rows, int64_t count) {
    for (int64_t i = 0; i < count * head_dim; ++i) {
      rows.push_back(quire::to_bfloat16(normal(random)));
    }
  };
  fill(c.query, num_rows);
  fill(c.keys, num_keys);
  fill(c.values, num_keys);
  return c;
}

/// [num_rows, head_dim], divided by the sums. In place: without packing, where rows see all keys.
std::vector<float> attend(const Case& c, bool in_place = false) {
  const int64_t stride = padded_dim(c.head_dim);
  std::vector<float> query(static_cast<size_t>(c.num_rows() * query_stride(c.head_dim)));
  std::vector<float> keys(static_cast<size_t>(packed_keys_size(c.head_dim)));
  std::vector<float> values(static_cast<size_t>(packed_values_size(c.head_dim)));
  const float nan = std::numeric_limits<float>::quiet_NaN();  // the first tile reads no state
  const auto rows = static_cast<size_t>(c.num_rows());
  std::vector<float> max(rows, nan), sum(rows, nan), out(rows * static_cast<size_t>(stride), nan);
  for (int64_t r = 0; r < c.num_rows(); ++r) {
    pack_query(c.query.data() + r * c.head_dim, c.head_dim,
               query.data() + r * query_stride(c.head_dim));
  }
  for (int64_t first = 0; first < c.num_keys; first += kTileKeys) {
    const int64_t count = std::min(kTileKeys, c.num_keys - first);
    const BFloat16 *key_rows[kTileKeys], *value_rows[kTileKeys];
    for (int64_t j = 0; j < count; ++j) {
      key_rows[j] = c.keys.data() + (first + j) * c.head_dim;
      value_rows[j] = c.values.data() + (first + j) * c.head_dim;
    }
    pack_keys(key_rows, count, c.head_dim, keys.data());
    pack_values(value_rows, count, c.head_dim, values.data());
    std::vector<int32_t> limits;
    for (const int32_t limit : c.limits) {
      limits.push_back(static_cast<int32_t>(std::clamp<int64_t>(limit - first, 0, count)));
    }
    const AttendTile tile{.num_rows = c.num_rows(),
                          .head_dim = c.head_dim,
                          .num_keys = count,
                          .query = query.data(),
                          .limits = limits.data(),
                          .keys = in_place ? nullptr : keys.data(),
                          .key_scales = c.key_scales.empty() ? nullptr : c.key_scales.data(),
                          .values = in_place ? nullptr : values.data(),
                          .softmax_scale = kScale,
                          .is_first = first == 0,
                          .state = {max.data(), sum.data(), out.data()}};
    if (in_place) {
      REQUIRE(attends_in_place(tile));
      attend_in_place(tile, {.keys = key_rows[0],
                             .upcoming_keys = key_rows[0],
                             .values = value_rows[0],
                             .upcoming_values = value_rows[0],
                             .key_stride = c.head_dim,
                             .value_stride = c.head_dim});
    } else {
      attend_tile(tile);
    }
  }
  std::vector<float> result;
  for (int64_t r = 0; r < c.num_rows(); ++r) {
    for (int64_t i = 0; i < c.head_dim; ++i) {
      result.push_back(out[static_cast<size_t>(r * stride + i)] / sum[static_cast<size_t>(r)]);
    }
  }
  return result;
}

}  // namespace

TEST_CASE("cpu attention: a weighted mean, each weight off by its rounding", "[cpu_attention]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const int64_t head_dim = GENERATE(1, 7, 16, 40, 64, 112, 128);
  const int64_t num_rows = GENERATE(1, 3, 6, 13);
  const int64_t num_keys = GENERATE(1, 17, 40, 64, 150);
  const Case c = random_case(num_rows, num_keys, head_dim);
  const std::vector<float> out = attend(c);
  // A weight is off by 2^-8 where it is rounded to bf16, and by its score's error: head_dim
  // roundings of partial sums of size sqrt(head_dim) (times 4 for safety), scaled. It moves the
  // mean by that share of its distance to it.
  const double share = (path.bf16_dot ? std::ldexp(1.0, -8) : 0) + std::ldexp(1.0, -16) +
                       std::ldexp(static_cast<double>(kScale) * 4 * std::sqrt(head_dim) *
                                      static_cast<double>(head_dim),
                                  -24);
  for (int64_t r = 0; r < num_rows; ++r) {
    const std::vector<double> weights = c.weights(r);
    for (int64_t i = 0; i < head_dim; ++i) {
      double total = 0, mean = 0, distance = 0;
      for (size_t j = 0; j < weights.size(); ++j) {
        total += weights[j];
        mean += weights[j] * c.at(c.values, static_cast<int64_t>(j), i);
      }
      mean /= total;
      for (size_t j = 0; j < weights.size(); ++j) {
        distance += weights[j] * std::abs(c.at(c.values, static_cast<int64_t>(j), i) - mean);
      }
      const double tolerance = 1.01 * share * distance / total + 1e-6;
      const float actual = out[static_cast<size_t>(r * head_dim + i)];
      if (!(std::abs(actual - mean) <= tolerance)) {
        FAIL("row " << r << ", dim " << i << ": " << actual << " for " << mean << " +- "
                    << tolerance);
      }
    }
  }
}

TEST_CASE("cpu attention: what a row does not see has no influence, NaN included",
          "[cpu_attention]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const Case c = random_case(7, 64, 64);
  const std::vector<float> expected = attend(c);
  for (int64_t hidden = 0; hidden < c.num_keys; ++hidden) {
    Case poisoned = c;
    const BFloat16 nan = quire::to_bfloat16(std::numeric_limits<float>::quiet_NaN());
    std::fill_n(poisoned.values.begin() + hidden * c.head_dim, c.head_dim, nan);
    std::fill_n(poisoned.keys.begin() + hidden * c.head_dim, c.head_dim, nan);
    const std::vector<float> out = attend(poisoned);
    for (int64_t r = 0; r < c.num_rows(); ++r) {
      const auto first = static_cast<size_t>(r * c.head_dim);
      CAPTURE(hidden, r, c.limits[static_cast<size_t>(r)]);
      if (c.limits[static_cast<size_t>(r)] <= hidden) {
        CHECK(std::equal(out.begin() + r * c.head_dim, out.begin() + (r + 1) * c.head_dim,
                         expected.begin() + r * c.head_dim));
      } else {
        CHECK(std::isnan(out[first]));
      }
    }
  }
}

TEST_CASE("cpu attention: a row's bits do not depend on the rows beside it", "[cpu_attention]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const Case all = random_case(17, 150, 80);
  const std::vector<float> together = attend(all);
  for (int64_t count = 1; count < 7; ++count) {
    for (int64_t first = 0; first + count <= all.num_rows(); ++first) {
      Case some = all;
      some.limits.assign(all.limits.begin() + first, all.limits.begin() + first + count);
      some.query.assign(all.query.begin() + first * 80, all.query.begin() + (first + count) * 80);
      const std::vector<float> out = attend(some);
      CHECK(std::equal(out.begin(), out.end(), together.begin() + first * 80));
    }
  }
}

TEST_CASE("cpu attention: few rows in place have the bits of packed tiles", "[cpu_attention]") {
  const auto path = GENERATE(from_range(test::instruction_paths()));
  CAPTURE(path.name);
  const test::ForcedPath forced(path);
  const int64_t head_dim = GENERATE(32, 64, 96, 128);
  const int64_t num_rows = GENERATE(1, 2, 3, 4);
  const int64_t num_keys = GENERATE(1, 2, 31, 48, 64, 127, 150);
  const bool is_scaled = GENERATE(false, true);
  const bool has_nan = GENERATE(false, true);
  Case c = random_case(num_rows, num_keys, head_dim);
  std::fill(c.limits.begin(), c.limits.end(), static_cast<int32_t>(num_keys));
  if (is_scaled) {
    for (int64_t j = 0; j < kTileKeys; ++j) {
      c.key_scales.push_back(0.5f + static_cast<float>(j) / 64);
    }
  }
  if (has_nan) {
    c.values[static_cast<size_t>(num_keys / 2 * head_dim)] =
        quire::to_bfloat16(std::numeric_limits<float>::quiet_NaN());
  }
  if (!path.bf16_dot) {
    CHECK_FALSE(attends_in_place({.num_rows = num_rows,
                                  .head_dim = head_dim,
                                  .num_keys = num_keys,
                                  .limits = c.limits.data(),
                                  .state = {}}));
    return;
  }
  const std::vector<float> packed = attend(c), in_place = attend(c, true);
  REQUIRE(in_place.size() == packed.size());
  CHECK(std::memcmp(in_place.data(), packed.data(), packed.size() * sizeof(float)) == 0);
}

}  // namespace quire::cpu
