#include "kernels/ops/moba_attention.h"

#include <catch2/catch.hpp>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

TEST_CASE("moba_attention: agrees with the reference on equal selections") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(attention_shapes()));
  CAPTURE(name, shape.block_size, shape.head_dim);
  const auto backend = make_test_backend(name);
  const auto reference = make_test_backend("reference");
  const int64_t b = shape.block_size;
  const Sequence first = random_sequence(shape, 7 * b + 3, 31);
  const Sequence second = random_sequence(shape, 4 * b, 32);
  const std::vector<Piece> pieces{{&first, 2 * b - 1, 7 * b + 3, 3},
                                  {&second, 4 * b - 1, 4 * b, 4},
                                  {&first, 6 * b, 6 * b + 1, 1},
                                  {&second, 0, b + 1, 2}};
  const MobaResult expected = run_moba(*reference, shape, pieces, 1, 5);
  const HostileBatch batch(*backend, shape, pieces, 2);
  const auto actual = run_moba_attention(*backend, batch, shape, expected.selected, 5);
  CHECK(difference(actual, expected.out, {.absolute = attention_tolerance(shape, pieces)}) == "");
}

TEST_CASE("moba_attention: bf16 output is the f32 output, rounded") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 30, 33);
  const HostileBatch batch(*backend, shape, {{&sequence, 5, 30, 3}}, 2);
  const DeviceTensor<int32_t> selected(*backend, {batch.num_rows(), shape.num_heads, 3});
  const DeviceTensor<float> wide(*backend, {batch.num_rows(), shape.num_heads, shape.head_dim});
  const DeviceTensor<BFloat16> narrowed(*backend,
                                        {batch.num_rows(), shape.num_heads, shape.head_dim}, 1);
  backend->moba_gate({.query = batch.query(),
                      .kv = batch.kv(),
                      .batch = batch.batch(),
                      .top_k = batch.top_k(),
                      .selected = selected});
  for (const TensorView& out : {wide.view(), narrowed.view()}) {
    backend->moba_attention({.query = batch.query(),
                             .kv = batch.kv(),
                             .batch = batch.batch(),
                             .selected = selected,
                             .softmax_scale = softmax_scale(shape),
                             .out = out});
  }
  CHECK(difference(batch.own_rows(narrowed.download()), narrow(batch.own_rows(wide.download()))) ==
        "");
}

TEST_CASE("moba_attention: scores far apart neither overflow nor vanish") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const auto reference = make_test_backend("reference");
  const KvShape shape;
  Sequence sequence = integer_sequence(shape, 33, 34);
  // Scores of some hundreds: without the running maximum exp() would overflow.
  for (BFloat16& q : sequence.query) q = to_bfloat16(16 * to_float(q));
  const std::vector<Piece> pieces{whole(sequence, 4)};
  const MobaResult expected = run_moba(*reference, shape, pieces, 1, 4);
  const MobaResult actual = run_moba(*backend, shape, pieces, 2, 4);
  REQUIRE(difference(actual.selected, expected.selected) == "");
  // A weight is exp of a difference of some hundreds, whose own rounding is a share of 2^-24 of it.
  CHECK(difference(actual.out, expected.out, {.absolute = attention_tolerance(shape, pieces)}) ==
        "");
}

TEST_CASE("moba_attention: a selection that breaks the contract is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape{.num_kv_heads = 1, .head_dim = 8, .block_size = 4, .num_heads = 1};
  const Sequence sequence = random_sequence(shape, 16, 35);
  const HostileBatch batch(*backend, shape, {{&sequence, 15, 16, 3}}, 2);
  CHECK_NOTHROW(run_moba_attention(*backend, batch, shape, {1, 2, 3}, 3));
  for (const std::vector<int32_t>& selected :
       {std::vector<int32_t>{0, 1, 2}, {2, 1, 3}, {1, 1, 3}, {2, 3, 4}, {-1, -1, -1}, {0, 3, -2}}) {
    CAPTURE(selected);
    CHECK_THROWS_AS(run_moba_attention(*backend, batch, shape, selected, 3), ContractError);
  }
}

}  // namespace
}  // namespace quire::test
