#include "kernels/ops/append_kv.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

constexpr int64_t kNumBlocks = 5, kHeads = 2, kBlockSize = 4, kHeadDim = 10;
// At both ends of the pool and of blocks, in no order.
const std::vector<int64_t> kSlots{19, 0, 7, 8, 3, 12};

struct Pool {
  explicit Pool(Backend& backend)
      : k(backend, {kNumBlocks, kHeads, kBlockSize, kHeadDim}),
        v(backend, {kNumBlocks, kHeads, kBlockSize, kHeadDim}),
        centroids(backend, {kNumBlocks, kHeads, kHeadDim}) {}
  PagedKvView view() const { return {k.view(), v.view(), centroids.view()}; }

  DeviceTensor<BFloat16> k, v, centroids;
};

/// The pool after the tokens were written where kSlots says; poison elsewhere.
std::vector<BFloat16> expected_pool(const std::vector<BFloat16>& tokens) {
  std::vector<BFloat16> pool(static_cast<size_t>(kNumBlocks * kHeads * kBlockSize * kHeadDim),
                             poison<BFloat16>());
  for (size_t t = 0; t < kSlots.size(); ++t) {
    for (int64_t g = 0; g < kHeads; ++g) {
      const int64_t tile = kSlots[t] / kBlockSize * kHeads + g;
      std::copy_n(tokens.begin() + (static_cast<int64_t>(t) * kHeads + g) * kHeadDim, kHeadDim,
                  pool.begin() + (tile * kBlockSize + kSlots[t] % kBlockSize) * kHeadDim);
    }
  }
  return pool;
}

TEST_CASE("append_kv: writes its slots and nothing else, f32 rounded to nearest even") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const auto num_tokens = static_cast<int64_t>(kSlots.size());
  RandomTensors random(9);
  auto key = random.normal(static_cast<size_t>(num_tokens * kHeads * kHeadDim));
  const auto value = random.normal_bf16(key.size());
  key[0] = 1.0f + 0x1p-8f;      // halfway, the even neighbour is below
  key[1] = 1.0f + 3 * 0x1p-8f;  // halfway, the even neighbour is above
  key[2] = -HUGE_VALF;
  key[3] = 3.4e38f;  // rounds to infinity
  const DeviceTensor<float> wide_key(*backend, key, {num_tokens, kHeads, kHeadDim}, 7);
  const DeviceTensor<BFloat16> device_value(*backend, value, {num_tokens, kHeads, kHeadDim}, 3);
  const DeviceTensor<int64_t> slots(*backend, kSlots, {num_tokens});
  const Pool pool(*backend);
  backend->append_kv({.key = wide_key, .value = device_value, .slots = slots, .kv = pool.view()});
  const auto expected_key = narrow(key);
  CHECK(to_float(expected_key[0]) == 1.0f);
  CHECK(to_float(expected_key[1]) == 1.0f + 4 * 0x1p-8f);
  CHECK(difference(pool.k.download(), expected_pool(expected_key)) == "");
  CHECK(difference(pool.v.download(), expected_pool(value)) == "");
  for (const BFloat16 centroid : pool.centroids.download()) {
    REQUIRE(DeviceTensor<BFloat16>::is_poison(centroid));
  }
}

TEST_CASE("append_kv: a slot outside of the pool is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t slot = GENERATE(int64_t{-1}, kNumBlocks * kBlockSize);
  CAPTURE(name, slot);
  const auto backend = make_test_backend(name);
  const DeviceTensor<float> key(*backend, {1, kHeads, kHeadDim});
  const DeviceTensor<int64_t> slots(*backend, {slot}, {1});
  const Pool pool(*backend);
  CHECK_THROWS_AS(backend->append_kv({.key = key, .value = key, .slots = slots, .kv = pool.view()}),
                  ContractError);
}

}  // namespace
}  // namespace quire::test
