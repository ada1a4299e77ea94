// What makes sparse attention compatible with every other feature: a token's result depends on its
// own sequence and position, and on nothing about how the step was put together. Bit for bit, on
// every backend.

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

constexpr int32_t kTopK = 3;
constexpr int64_t kMaxTopK = 4;

void check_equal(const MobaResult& actual, const MobaResult& expected) {
  CHECK(difference(actual.selected, expected.selected) == "");
  CHECK(difference(actual.out, expected.out) == "");
}

void append(MobaResult& target, const MobaResult& source, int64_t num_rows, const KvShape& shape) {
  target.selected.insert(target.selected.end(),
                         source.selected.end() - num_rows * shape.num_heads * kMaxTopK,
                         source.selected.end());
  target.out.insert(target.out.end(),
                    source.out.end() - num_rows * shape.num_heads * shape.head_dim,
                    source.out.end());
}

TEST_CASE("MoBA: any chunking gives the bits of the whole prefill, decode included") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  const auto backend = make_test_backend(name);
  const Sequence sequence = random_sequence(shape, 5 * shape.block_size + 3, 51);
  const MobaResult expected = run_moba(*backend, shape, {whole(sequence, kTopK)}, 1, kMaxTopK);
  // Chunk 1 is decode. What lies behind a chunk's end is NaN in its cache, and its last block has
  // no centroid: neither the future nor an open block's centroid is read.
  const int64_t chunk_size = GENERATE(1, 3, 4, 57);
  CAPTURE(name, shape.block_size, chunk_size);
  MobaResult chunked, wanted;
  for (const auto& [first, end] : chunks_of(*backend, sequence.num_tokens, chunk_size)) {
    const Piece piece{&sequence, first, end, kTopK};
    append(chunked,
           run_moba(*backend, shape, {piece}, static_cast<uint32_t>(100 + first), kMaxTopK),
           piece.num_tokens(), shape);
    append(wanted, rows_of(expected, shape, first, end, kMaxTopK), piece.num_tokens(), shape);
  }
  check_equal(chunked, wanted);
}

TEST_CASE("MoBA: alone or in any batch, the same bits") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size);
  const auto backend = make_test_backend(name);
  const int64_t b = shape.block_size;
  const Sequence first = random_sequence(shape, 4 * b + 1, 52);
  const Sequence second = random_sequence(shape, 6 * b, 53);
  const std::vector<Piece> pieces{{&second, 2 * b, 4 * b - 1, 2},
                                  {&first, 4 * b, 4 * b + 1, kTopK},
                                  {&second, 0, 1, 1},
                                  {&first, 0, 4 * b + 1, 4}};
  MobaResult alone;
  for (const Piece& piece : pieces) {
    append(alone, run_moba(*backend, shape, {piece}, 3, kMaxTopK), piece.num_tokens(), shape);
  }
  check_equal(run_moba(*backend, shape, pieces, 4, kMaxTopK), alone);
}

TEST_CASE("MoBA: where the blocks lie does not matter") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 61, 54);
  const MobaResult expected = run_moba(*backend, shape, {whole(sequence, kTopK)}, 1, kMaxTopK);
  for (uint32_t seed = 2; seed < 8; ++seed) {
    CAPTURE(seed);
    check_equal(run_moba(*backend, shape, {whole(sequence, kTopK)}, seed, kMaxTopK), expected);
  }
}

TEST_CASE("MoBA: a group of query heads equals query heads with KV heads of their own") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape grouped{.num_kv_heads = 2, .head_dim = 20, .block_size = 8, .num_heads = 6};
  KvShape separate = grouped;
  separate.num_kv_heads = grouped.num_heads;
  const Sequence sequence = random_sequence(grouped, 50, 55);
  Sequence repeated;
  repeated.num_tokens = sequence.num_tokens;
  repeated.query = sequence.query;
  for (int64_t t = 0; t < sequence.num_tokens; ++t) {
    for (int64_t head = 0; head < grouped.num_heads; ++head) {
      const int64_t row = (t * grouped.num_kv_heads + head / 3) * grouped.head_dim;
      const auto copy = [&](const std::vector<BFloat16>& from, std::vector<BFloat16>& to) {
        to.insert(to.end(), from.begin() + row, from.begin() + row + grouped.head_dim);
      };
      copy(sequence.key, repeated.key);
      copy(sequence.value, repeated.value);
    }
  }
  check_equal(run_moba(*backend, separate, {whole(repeated, kTopK)}, 2, kMaxTopK),
              run_moba(*backend, grouped, {whole(sequence, kTopK)}, 1, kMaxTopK));
}

TEST_CASE("MoBA: with top_k for every block it is full attention") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size);
  const auto backend = make_test_backend(name);
  const Sequence sequence = random_sequence(shape, 3 * shape.block_size + 2, 56);
  const std::vector<Piece> pieces{whole(sequence, 4)};
  const HostileBatch batch(*backend, shape, pieces, 1);
  const auto full = run_full_attention(*backend, batch, shape);
  const MobaResult moba = run_moba(*backend, shape, pieces, 1, 4);
  // The reference walks the same tokens in the same order. Elsewhere partials are merged block by
  // block, so only the rounding differs.
  const double tolerance = name == "reference" ? 0 : 2 * attention_tolerance(shape, pieces);
  CHECK(difference(moba.out, full, {.absolute = tolerance}) == "");
}

TEST_CASE("MoBA: a block that is not selected is not read") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape{.num_kv_heads = 1, .head_dim = 16, .block_size = 4, .num_heads = 2};
  Sequence sequence = random_sequence(shape, 22, 57);
  const std::vector<Piece> decode{{&sequence, 21, 22, 3}};
  const std::vector<int32_t> selected{1, 3, 5, 0, 3, 5};
  const HostileBatch clean(*backend, shape, decode, 1);
  const auto expected = run_moba_attention(*backend, clean, shape, selected, 3);
  const int64_t width = shape.block_size * shape.head_dim;
  for (const int64_t block : {2, 4}) {
    std::fill_n(sequence.key.begin() + block * width, width, poison<BFloat16>());
    std::fill_n(sequence.value.begin() + block * width, width, poison<BFloat16>());
  }
  const HostileBatch poisoned(*backend, shape, decode, 1);
  CHECK(difference(run_moba_attention(*backend, poisoned, shape, selected, 3), expected) == "");
}

}  // namespace
}  // namespace quire::test
