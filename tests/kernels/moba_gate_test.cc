#include "kernels/ops/moba_gate.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <utility>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

/// Scores of one (token, head) for blocks 0 .. current - 1, in f64.
std::vector<double> scores_of(const KvShape& shape, const Sequence& sequence, int64_t position,
                              int64_t head) {
  const int64_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  std::vector<double> scores;
  for (int64_t block = 0; block < position / shape.block_size; ++block) {
    const auto centroid =
        centroid_of(sequence.key.data() + block * shape.block_size * width, shape);
    double score = 0;
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      const auto q = static_cast<size_t>((position * shape.num_heads + head) * shape.head_dim + d);
      score += static_cast<double>(to_float(sequence.query[q])) *
               static_cast<double>(
                   to_float(centroid[static_cast<size_t>(kv_head * shape.head_dim + d)]));
    }
    scores.push_back(score);
  }
  return scores;
}

/// The definition, written down once more: the top_k - 1 best past blocks, ties to the more recent,
/// then the current block, ascending and padded.
std::vector<int32_t> select(const std::vector<double>& scores, int32_t top_k, int64_t max_top_k) {
  std::vector<std::pair<double, int32_t>> ranked;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double score = std::isnan(scores[i]) ? -HUGE_VAL : scores[i];
    ranked.emplace_back(score, static_cast<int32_t>(i));
  }
  std::ranges::sort(ranked, std::greater<>());
  ranked.resize(std::min(ranked.size(), static_cast<size_t>(top_k - 1)));
  std::vector<int32_t> selected;
  for (const auto& [score, block] : ranked) selected.push_back(block);
  selected.push_back(static_cast<int32_t>(scores.size()));
  std::ranges::sort(selected);
  selected.resize(static_cast<size_t>(max_top_k), -1);
  return selected;
}

std::vector<int32_t> expected_selection(const KvShape& shape, const std::vector<Piece>& pieces,
                                        int64_t max_top_k) {
  std::vector<int32_t> all;
  for (const Piece& piece : pieces) {
    for (int64_t position = piece.first; position < piece.end; ++position) {
      for (int64_t head = 0; head < shape.num_heads; ++head) {
        const auto row =
            select(scores_of(shape, *piece.sequence, position, head), piece.top_k, max_top_k);
        all.insert(all.end(), row.begin(), row.end());
      }
    }
  }
  return all;
}

TEST_CASE("moba_gate: exactly the defined selection where sums are exact, ties included") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size, shape.head_dim);
  const auto backend = make_test_backend(name);
  const int64_t b = shape.block_size;
  const Sequence first = integer_sequence(shape, 9 * b + 1, 11);
  const Sequence second = integer_sequence(shape, 6 * b, 12);
  const Sequence third = integer_sequence(shape, b - 1, 13);
  // A prefill, a decode step at each kind of edge, a chunk in the middle, a prompt of one block.
  const std::vector<Piece> pieces{
      {.sequence = &first, .first = 0, .end = 9 * b + 1, .top_k = 3},
      {.sequence = &second, .first = 6 * b - 1, .end = 6 * b, .top_k = 4},
      {.sequence = &second, .first = 5 * b, .end = 5 * b + 1, .top_k = 1},
      {.sequence = &first, .first = 3 * b - 1, .end = 5 * b + 1, .top_k = 2},
      {.sequence = &third, .first = 0, .end = b - 1, .top_k = 5},
  };
  const HostileBatch batch(*backend, shape, pieces, 7);
  CHECK(difference(run_gate(*backend, batch, shape, 6), expected_selection(shape, pieces, 6)) ==
        "");
}

TEST_CASE("moba_gate: all scores equal, so the most recent blocks win") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  Sequence sequence = integer_sequence(shape, 41, 1);
  std::ranges::fill(sequence.query, BFloat16{});
  // -0 and +0 are equal: half of the products are negative zeros.
  for (size_t i = 0; i < sequence.query.size(); i += 2) sequence.query[i] = to_bfloat16(-0.0f);
  const HostileBatch batch(*backend, shape, {{&sequence, 40, 41, 4}}, 3);
  const std::vector<int32_t> row{7, 8, 9, 10};
  const auto selected = run_gate(*backend, batch, shape, 4);
  for (size_t begin = 0; begin < selected.size(); begin += 4) {
    CHECK(difference(std::span(selected).subspan(begin, 4), row) == "");
  }
}

TEST_CASE("moba_gate: a NaN score loses against every number, and ties with other NaNs") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  Sequence sequence = integer_sequence(shape, 24, 5);
  for (const int64_t block : {1, 3, 4}) {
    sequence.key[static_cast<size_t>(block * shape.block_size * width)] = poison<BFloat16>();
    sequence.key[static_cast<size_t>(block * shape.block_size * width + shape.head_dim)] =
        poison<BFloat16>();
  }
  const std::vector<Piece> three{{&sequence, 23, 24, 3}}, four{{&sequence, 23, 24, 4}};
  const HostileBatch numbers(*backend, shape, three, 3);
  const std::vector<int32_t> only_numbers{0, 2, 5, 0, 2, 5, 0, 2, 5, 0, 2, 5};
  CHECK(difference(run_gate(*backend, numbers, shape, 3), only_numbers) == "");
  const HostileBatch one_nan(*backend, shape, four, 3);
  CHECK(difference(run_gate(*backend, one_nan, shape, 4), expected_selection(shape, four, 4)) ==
        "");
}

TEST_CASE("moba_gate: on real numbers a selection differs only between scores that are close") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size, shape.head_dim);
  const auto backend = make_test_backend(name);
  const Sequence sequence = random_sequence(shape, 12 * shape.block_size + 1, 21);
  const std::vector<Piece> pieces{{&sequence, 4 * shape.block_size, sequence.num_tokens, 4}};
  const HostileBatch batch(*backend, shape, pieces, 5);
  const auto actual = run_gate(*backend, batch, shape, 4);
  const auto expected = expected_selection(shape, pieces, 4);
  REQUIRE(actual.size() == expected.size());
  size_t num_mismatches = 0;
  for (size_t begin = 0; begin < actual.size(); begin += 4) {
    if (std::equal(actual.begin() + static_cast<std::ptrdiff_t>(begin),
                   actual.begin() + static_cast<std::ptrdiff_t>(begin) + 4,
                   expected.begin() + static_cast<std::ptrdiff_t>(begin))) {
      continue;
    }
    ++num_mismatches;
    const auto row = static_cast<int64_t>(begin / 4);
    const auto scores =
        scores_of(shape, sequence, pieces[0].first + row / shape.num_heads, row % shape.num_heads);
    // The worst chosen score against the best one: head_dim terms of size |q||c| <= head_dim / 2.
    double chosen = 0, wanted = 0;
    for (size_t slot = begin; slot < begin + 3; ++slot) {
      chosen += scores.at(static_cast<size_t>(actual[slot]));
      wanted += scores.at(static_cast<size_t>(expected[slot]));
    }
    const double d = static_cast<double>(shape.head_dim);
    CHECK(wanted - chosen <= 6 * d * kF32Roundoff * d);
  }
  CHECK(num_mismatches <= actual.size() / 4 / 100);
}

}  // namespace
}  // namespace quire::test
