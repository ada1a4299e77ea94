#include "kernels/ops/moba_gate.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/kernels/attention_case.h"
#include "tests/kernels/gate_definition.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

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
    const auto scores = gate_scores(shape, sequence, pieces[0].first + row / shape.num_heads,
                                    row % shape.num_heads);
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
