#include "kernels/ops/full_attention.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

std::vector<float> run(Backend& backend, const KvShape& shape, const std::vector<Piece>& pieces,
                       uint32_t placement_seed) {
  return run_full_attention(backend, HostileBatch(backend, shape, pieces, placement_seed), shape);
}

TEST_CASE("full_attention: agrees with the reference on ragged batches") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size, shape.head_dim);
  const auto backend = make_test_backend(name);
  const auto reference = make_test_backend("reference");
  const int64_t b = shape.block_size;
  const Sequence first = random_sequence(shape, 3 * b + 3, 41);
  const Sequence second = random_sequence(shape, 2 * b, 42);
  const std::vector<Piece> pieces{{&first, 0, 3 * b + 3},
                                  {&second, 2 * b - 1, 2 * b},
                                  {&first, b, b + 1},
                                  {&second, b - 1, b + 1}};
  CHECK(difference(run(*backend, shape, pieces, 2), run(*reference, shape, pieces, 1),
                   {.absolute = attention_tolerance(shape, pieces)}) == "");
}

TEST_CASE("full_attention: one token attends to itself, so its value comes back") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 1, 43);
  std::vector<float> expected;
  for (int64_t head = 0; head < shape.num_heads; ++head) {
    const int64_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
    for (int64_t i = 0; i < shape.head_dim; ++i) {
      expected.push_back(
          to_float(sequence.value[static_cast<size_t>(kv_head * shape.head_dim + i)]));
    }
  }
  CHECK(difference(run(*backend, shape, {{&sequence, 0, 1}}, 1), expected) == "");
}

TEST_CASE("full_attention: the same bits in any chunk, any batch and any place") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size, shape.head_dim);
  const auto backend = make_test_backend(name);
  const Sequence sequence = random_sequence(shape, 3 * shape.block_size + 2, 44);
  const Sequence other = random_sequence(shape, shape.block_size + 1, 45);
  const int64_t num_tokens = sequence.num_tokens;
  const auto expected = run(*backend, shape, {{&sequence, 0, num_tokens}}, 1);
  CHECK(difference(run(*backend, shape, {{&sequence, 0, num_tokens}}, 99), expected) == "");

  // In a chunk that ends early the tokens behind it are NaN: the future is not read.
  const int64_t chunk_size = GENERATE(1, 7, 40);
  const int64_t width = shape.num_heads * shape.head_dim;
  std::vector<float> chunked, wanted;
  for (const auto& [first, end] : chunks_of(*backend, num_tokens, chunk_size)) {
    const auto out = run(*backend, shape, {{&other, 0, other.num_tokens}, {&sequence, first, end}},
                         static_cast<uint32_t>(first));
    chunked.insert(chunked.end(), out.end() - (end - first) * width, out.end());
    wanted.insert(wanted.end(), expected.begin() + first * width, expected.begin() + end * width);
  }
  CAPTURE(chunk_size);
  CHECK(difference(chunked, wanted) == "");
}

}  // namespace
}  // namespace quire::test
