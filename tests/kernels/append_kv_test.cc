#include "kernels/ops/append_kv.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/hostile.h"
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

/// A pool of integers and scales.
struct Int8Pool {
  explicit Int8Pool(Backend& backend)
      : k(backend, {kNumBlocks, kHeads, kBlockSize, kHeadDim}),
        v(backend, {kNumBlocks, kHeads, kBlockSize, kHeadDim}),
        centroids(backend, {kNumBlocks, kHeads, kHeadDim}),
        k_scales(backend, {kNumBlocks, kHeads, kBlockSize}),
        v_scales(backend, {kNumBlocks, kHeads, kBlockSize}) {}
  PagedKvView view() const {
    return {k.view(), v.view(), centroids.view(), k_scales.view(), v_scales.view()};
  }

  DeviceTensor<int8_t> k, v;
  DeviceTensor<BFloat16> centroids, k_scales, v_scales;
};

/// What the pool's integers and scales must be: the contract's, where kSlots says, else poison.
void check_quantized(const std::vector<int8_t>& integers, const std::vector<BFloat16>& scales,
                     const std::vector<float>& tokens) {
  std::vector<int8_t> expected(integers.size(), poison<int8_t>());
  std::vector<BFloat16> expected_scales(scales.size(), poison<BFloat16>());
  for (size_t t = 0; t < kSlots.size(); ++t) {
    for (int64_t g = 0; g < kHeads; ++g) {
      const auto from = (static_cast<int64_t>(t) * kHeads + g) * kHeadDim;
      const QuantizedRow row = quantize({tokens.data() + from, static_cast<size_t>(kHeadDim)});
      const int64_t to =
          (kSlots[t] / kBlockSize * kHeads + g) * kBlockSize + kSlots[t] % kBlockSize;
      std::ranges::copy(row.integers, expected.begin() + to * kHeadDim);
      expected_scales[static_cast<size_t>(to)] = row.scale;
    }
  }
  CHECK(integers == expected);
  CHECK(difference(scales, expected_scales) == "");
}

TEST_CASE("append_kv: int8 rows have the contract's integers and scales, at every size") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const auto num_tokens = static_cast<int64_t>(kSlots.size());
  RandomTensors random(10);
  auto key = random.normal(static_cast<size_t>(num_tokens * kHeads * kHeadDim));
  const auto value = random.normal_bf16(key.size());
  const auto scale_row = [&](int64_t row, float factor) {
    for (int64_t i = 0; i < kHeadDim; ++i) key[static_cast<size_t>(row * kHeadDim + i)] *= factor;
  };
  scale_row(0, 0);
  scale_row(1, 0x1p-130f);  // a denormal scale
  scale_row(2, 0x1p-149f);  // none at all
  scale_row(3, 0x1p125f);
  key[4 * kHeadDim + 3] = NAN;
  key[5 * kHeadDim + 9] = -HUGE_VALF;
  for (int64_t i = 0; i < kHeadDim; ++i) {  // ties of the rounding, at scale 1
    key[static_cast<size_t>(6 * kHeadDim + i)] = i == 0 ? 127.0f : 0.5f + static_cast<float>(i);
  }
  const DeviceTensor<float> wide_key(*backend, key, {num_tokens, kHeads, kHeadDim}, 7);
  const DeviceTensor<BFloat16> device_value(*backend, value, {num_tokens, kHeads, kHeadDim}, 3);
  const DeviceTensor<int64_t> slots(*backend, kSlots, {num_tokens});
  const Int8Pool pool(*backend);
  backend->append_kv({.key = wide_key, .value = device_value, .slots = slots, .kv = pool.view()});
  check_quantized(pool.k.download(), pool.k_scales.download(), key);
  check_quantized(pool.v.download(), pool.v_scales.download(), widen(value));
}

TEST_CASE("append_kv: an int8 element is within half a step of what was stored") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const int64_t num_tokens = 64;
  const auto key = RandomTensors(11).normal(static_cast<size_t>(num_tokens * kHeadDim));
  std::vector<int64_t> places(static_cast<size_t>(num_tokens));
  std::iota(places.begin(), places.end(), int64_t{0});
  const DeviceTensor<float> tokens(*backend, key, {num_tokens, 1, kHeadDim});
  const DeviceTensor<int64_t> slots(*backend, places, {num_tokens});
  const DeviceTensor<int8_t> k(*backend, {1, 1, num_tokens, kHeadDim}),
      v(*backend, {1, 1, num_tokens, kHeadDim});
  const DeviceTensor<BFloat16> centroids(*backend, {1, 1, kHeadDim}),
      k_scales(*backend, {1, 1, num_tokens}), v_scales(*backend, {1, 1, num_tokens});
  backend->append_kv({.key = tokens,
                      .value = tokens,
                      .slots = slots,
                      .kv = {k, v, centroids, k_scales, v_scales}});
  const auto integers = k.download();
  const auto scales = k_scales.download();
  for (size_t i = 0; i < key.size(); ++i) {
    const float step = to_float(scales[i / static_cast<size_t>(kHeadDim)]);
    REQUIRE(std::fabs(static_cast<float>(integers[i]) * step - key[i]) <= 0.5001f * step);
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
  CHECK_THROWS_AS(
      (backend->append_kv({.key = key, .value = key, .slots = slots, .kv = pool.view()}),
       backend->synchronize()),
      ContractError);
  CHECK_NOTHROW(backend->synchronize());
  for (const BFloat16 k : pool.k.download()) REQUIRE(DeviceTensor<BFloat16>::is_poison(k));
}

}  // namespace
}  // namespace quire::test
