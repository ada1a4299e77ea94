#include "kernels/ops/full_attention.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

std::vector<float> run(Backend& backend, const KvShape& shape, const std::vector<Piece>& pieces,
                       uint32_t placement_seed, int32_t window = 0) {
  const HostileBatch batch(backend, shape, pieces, placement_seed);
  return run_full_attention(backend, batch, shape, window);
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

TEST_CASE(
    "full_attention: a window of one token gives its value back, a long one changes nothing") {
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(shape.block_size, shape.head_dim);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    const Sequence sequence = random_sequence(shape, 2 * shape.block_size + 3, 46);
    const std::vector<Piece> pieces{{&sequence, 0, sequence.num_tokens}};
    const auto all = run(*backend, shape, pieces, 1);
    const auto num_tokens = static_cast<int32_t>(sequence.num_tokens);
    CHECK(difference(run(*backend, shape, pieces, 1, num_tokens), all) == "");
    CHECK(difference(run(*backend, shape, pieces, 1, num_tokens + 100), all) == "");
    if (shape.dtype == DType::kI8) continue;
    std::vector<float> values;
    for (int64_t t = 0; t < sequence.num_tokens; ++t) {
      for (int64_t head = 0; head < shape.num_heads; ++head) {
        const int64_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
        const auto first = (t * shape.num_kv_heads + kv_head) * shape.head_dim;
        for (int64_t i = first; i < first + shape.head_dim; ++i) {
          values.push_back(to_float(sequence.value[static_cast<size_t>(i)]));
        }
      }
    }
    CHECK(difference(run(*backend, shape, pieces, 1, 1), values) == "");
  }
}

TEST_CASE("full_attention: windows agree with the reference, over several segments of keys too") {
  const auto shape = GENERATE(from_range(attention_shapes()));
  const int32_t window = GENERATE(2, 5, 64, 150, 1024, 1500);
  CAPTURE(shape.block_size, shape.head_dim, window);
  const auto reference = make_test_backend("reference");
  const Sequence sequence = random_sequence(shape, 2200, 47);
  const std::vector<Piece> pieces{{&sequence, 2130, 2200},
                                  {&sequence, 1020, 1030},
                                  {&sequence, 0, 80},
                                  {&sequence, 1649, 1650}};
  const auto expected = run(*reference, shape, pieces, 1, window);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    CHECK(difference(run(*make_test_backend(name), shape, pieces, 2, window), expected,
                     {.absolute = attention_tolerance(shape, pieces)}) == "");
  }
}

TEST_CASE("full_attention: with a window, too, the same bits in any chunk and any batch") {
  const auto shape = GENERATE(from_range(attention_shapes()));
  const int32_t window = GENERATE(3, 70, 1100);
  const int64_t chunk_size = GENERATE(1, 7, 40);
  CAPTURE(shape.block_size, shape.head_dim, window, chunk_size);
  const Sequence sequence = random_sequence(shape, window < 1000 ? 200 : 1250, 48);
  const Sequence other = random_sequence(shape, shape.block_size + 1, 49);
  const int64_t num_tokens = sequence.num_tokens,
                first_row = num_tokens - (window < 1000 ? 170 : 60);
  const int64_t width = shape.num_heads * shape.head_dim;
  for (const std::string& name : kernel_backends()) {
    if (name == "reference" && window > 1000) continue;  // one row at a time in any case
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    const auto expected = run(*backend, shape, {{&sequence, first_row, num_tokens}}, 1, window);
    std::vector<float> chunked;
    for (int64_t first = first_row; first < num_tokens; first += chunk_size) {
      const int64_t end = std::min(first + chunk_size, num_tokens);
      const auto out =
          run(*backend, shape, {{&other, 0, other.num_tokens}, {&sequence, first, end}},
              static_cast<uint32_t>(first), window);
      chunked.insert(chunked.end(), out.end() - (end - first) * width, out.end());
    }
    CHECK(difference(chunked, expected) == "");
  }
}

TEST_CASE("full_attention: windows longer than a run of keys, and rows on both sides of an edge") {
  KvShape shape;
  shape.dtype = GENERATE(DType::kBF16, DType::kI8);
  const int32_t window = GENERATE(2048, 2049, 2050, 3000);
  CAPTURE(shape.dtype, window);
  const Sequence sequence = random_sequence(shape, 4200, 51);
  const std::vector<Piece> pieces{{&sequence, 4080, 4120},  // the last run begins at 4096
                                  {&sequence, 2040, 2053},
                                  {&sequence, 4094, 4095},
                                  {&sequence, 4199, 4200}};
  const auto expected = run(*make_test_backend("reference"), shape, pieces, 1, window);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    CHECK(difference(run(*make_test_backend(name), shape, pieces, 2, window), expected,
                     {.absolute = attention_tolerance(shape, pieces)}) == "");
  }
}

TEST_CASE("full_attention: a negative window is refused") {
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 9, 50);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    CHECK_THROWS_AS(run(*make_test_backend(name), shape, {{&sequence, 0, 9}}, 1, -1),
                    ContractError);
  }
}

}  // namespace
}  // namespace quire::test
