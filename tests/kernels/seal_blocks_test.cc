#include "kernels/ops/seal_blocks.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

/// Keys of very different sizes whose second half cancels the first, but for small ones: what
/// remains is made of the sums' roundings, so any other order of summation gives other bits.
Sequence cancelling_sequence(const KvShape& shape, int64_t num_tokens, uint32_t seed) {
  Sequence sequence = random_sequence(shape, num_tokens, seed);
  const int64_t width = shape.num_kv_heads * shape.head_dim, half = shape.block_size / 2;
  const auto exponents = RandomTensors(seed).integers(sequence.key.size(), 0, 24);
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      const auto at = static_cast<size_t>(t * width + i);
      const int64_t offset = t % shape.block_size;
      if (offset < half && offset % 2 == 0) {
        sequence.key[at] = to_bfloat16(std::ldexp(to_float(sequence.key[at]), exponents[at]));
      } else if (offset >= half && offset < 2 * half && (offset - half) % 2 == 0) {
        sequence.key[at] =
            to_bfloat16(-to_float(sequence.key[at - static_cast<size_t>(half * width)]));
      }
    }
  }
  return sequence;
}

TEST_CASE("seal_blocks: the centroid's bits are fixed by the contract") {
  const auto name = GENERATE(from_range(kernel_backends()));
  // 300 has no exact inverse and ends in a run of 44.
  const int64_t block_size = GENERATE(1, 4, 128, 300, 512);
  const int64_t head_dim = GENERATE(5, 64);
  const DType dtype = GENERATE(DType::kBF16, DType::kI8);
  CAPTURE(name, block_size, head_dim, dtype_name(dtype));
  const auto backend = make_test_backend(name);
  const KvShape shape{.num_kv_heads = 2,
                      .head_dim = head_dim,
                      .block_size = block_size,
                      .num_heads = 2,
                      .dtype = dtype};
  const Sequence sequence = cancelling_sequence(shape, 2 * block_size + block_size / 2, 61);
  const HostileBatch batch(*backend, shape, {whole(sequence, 1)}, 3);
  const int64_t num_blocks = batch.kv().num_blocks();
  const DeviceTensor<BFloat16> centroids(*backend, {num_blocks, 2, head_dim});
  const DeviceTensor<int32_t> ids(*backend, {batch.block_id(0, 1), batch.block_id(0, 0)}, {2});
  PagedKvView kv = batch.kv();
  kv.centroids = centroids;
  backend->seal_blocks({.kv = kv, .block_ids = ids});

  std::vector<BFloat16> expected(static_cast<size_t>(num_blocks * 2 * head_dim),
                                 poison<BFloat16>());
  for (const int64_t block : {0, 1}) {
    const auto centroid =
        centroid_of(sequence.key.data() + block * block_size * 2 * head_dim, shape);
    std::copy(centroid.begin(), centroid.end(),
              expected.begin() + batch.block_id(0, block) * 2 * head_dim);
  }
  CHECK(difference(centroids.download(), expected) == "");
}

TEST_CASE("seal_blocks: no block is no work, and a block outside of the pool is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 8, 62);
  const HostileBatch batch(*backend, shape, {whole(sequence, 1)}, 3);
  const DeviceTensor<int32_t> none(*backend, std::vector<int32_t>{}, {0});
  CHECK_NOTHROW(backend->seal_blocks({.kv = batch.kv(), .block_ids = none}));
  for (const int64_t id : {int64_t{-1}, batch.kv().num_blocks()}) {
    const DeviceTensor<int32_t> ids(*backend, {static_cast<int32_t>(id)}, {1});
    CHECK_THROWS_AS(
        (backend->seal_blocks({.kv = batch.kv(), .block_ids = ids}), backend->synchronize()),
        ContractError);
  }
}

}  // namespace
}  // namespace quire::test
