#include "kernels/ops/seal_units.h"

#include <catch2/catch.hpp>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

/// Four blocks of 8 and a stage of units of 2, another of units of 4.
KvShape staged_shape(int64_t head_dim) {
  KvShape shape{.num_kv_heads = 2, .head_dim = head_dim, .block_size = 8, .num_heads = 2};
  shape.schedule.num_stages = 2;
  shape.schedule.stages[0] = {.from = 1, .group = 2};
  shape.schedule.stages[1] = {.from = 9, .group = 4};
  return shape;
}

TEST_CASE("seal_units: a unit's centroid lies at its last block, its bits fixed by the contract") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t head_dim = GENERATE(5, 64);
  CAPTURE(name, head_dim);
  const auto backend = make_test_backend(name);
  const KvShape shape = staged_shape(head_dim);
  const Sequence sequence = random_sequence(shape, 33, 81);
  const HostileBatch batch(*backend, shape, {whole(sequence, 1)}, 3);
  const int64_t num_blocks = batch.kv().num_blocks(), width = 2 * head_dim;
  const DeviceTensor<BFloat16> units(*backend, {2, num_blocks, 2, head_dim});
  PagedKvView kv = batch.kv();
  kv.unit_centroids = units;
  const auto id = [&](int64_t block) { return batch.block_id(0, block); };
  const DeviceTensor<int32_t> pairs(*backend, {id(2), id(3), id(0), id(1)}, {2, 2});
  const DeviceTensor<int32_t> four(*backend, {id(0), id(1), id(2), id(3)}, {1, 4});
  backend->seal_units({.kv = kv, .stage = 0, .members = pairs});
  backend->seal_units({.kv = kv, .stage = 1, .members = four});

  std::vector<BFloat16> expected(static_cast<size_t>(2 * num_blocks * width), poison<BFloat16>());
  const auto put = [&](int64_t stage, int64_t first_block, int64_t group) {
    const auto centroid =
        unit_centroid_of(sequence.key.data() + first_block * 8 * width, group, shape);
    std::copy(centroid.begin(), centroid.end(),
              expected.begin() + (stage * num_blocks + id(first_block + group - 1)) * width);
  };
  put(0, 0, 2);
  put(0, 2, 2);
  put(1, 0, 4);
  CHECK(difference(units.download(), expected) == "");
}

TEST_CASE("seal_units: a stage or a block that does not exist is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape = staged_shape(16);
  const Sequence sequence = random_sequence(shape, 17, 82);
  const HostileBatch batch(*backend, shape, {whole(sequence, 1)}, 3);
  const DeviceTensor<int32_t> good(*backend, {0, 1}, {1, 2});
  const DeviceTensor<int32_t> foreign(*backend, {0, static_cast<int32_t>(batch.kv().num_blocks())},
                                      {1, 2});
  const DeviceTensor<int32_t> none(*backend, std::vector<int32_t>{}, {0, 2});
  CHECK_NOTHROW(backend->seal_units({.kv = batch.kv(), .stage = 1, .members = none}));
  CHECK_THROWS_AS(backend->seal_units({.kv = batch.kv(), .stage = 2, .members = good}),
                  ContractError);
  CHECK_THROWS_AS(backend->seal_units({.kv = batch.kv(), .stage = -1, .members = good}),
                  ContractError);
  CHECK_THROWS_AS((backend->seal_units({.kv = batch.kv(), .stage = 0, .members = foreign}),
                   backend->synchronize()),
                  ContractError);
}

}  // namespace
}  // namespace quire::test
