// Tiles in shared memory and the tensor-core operands made of them, on the emulated device: the
// index arithmetic of device/tile.cuh against plain loops.

#include <catch2/catch.hpp>
#include <vector>

#include "kernels/cuda/device/best_list.cuh"
#include "kernels/cuda/device/tile.cuh"
#include "tests/support/random_tensors.h"

namespace quire::cuda {
namespace {

using test::RandomTensors;

constexpr int kColumns = 64;

/// Runs a block of tile threads; `shared_bytes` of tile memory.
template <class Body>
void run_block(size_t shared_bytes, const Body& body) {
  emulator::run_grid("test", {1, 1, 1}, {kTileThreads, 1, 1}, shared_bytes, body);
}

TEST_CASE("cuda tiles: the product of two tiles is the product, row by row") {
  // A width that ends inside of a chunk, copied by elements; and a full one, copied by 16 bytes.
  const int width = GENERATE(20, 64);
  RandomTensors random(1);
  const auto a = random.integers_bf16(kTileRows * kColumns, -4, 4);
  const auto b = random.integers_bf16(kTileRows * kColumns, -4, 4);
  std::vector<float> result(kTileRows * kTileRows, -1.0f);
  constexpr int kTile = kTileRows * kTileStride<kColumns>;
  run_block(2 * kTile * sizeof(BFloat16), [&] {
    auto* tiles = reinterpret_cast<BFloat16*>(ptx::dynamic_shared_memory());
    const auto rows_of_matrix = [](const std::vector<BFloat16>& matrix) {
      return [&matrix](int r) -> const BFloat16* {
        return r == 5 ? nullptr : matrix.data() + r * kColumns;
      };
    };
    load_tile<kTileRows, kColumns>(tiles, width, width == kColumns, a.data(), rows_of_matrix(a));
    load_tile<kTileRows, kColumns>(tiles + kTile, width, width == kColumns, b.data(),
                                   rows_of_matrix(b));
    ptx::commit_copies();
    ptx::wait_copies<0>();
    __syncthreads();
    float sums[kTileRows / 8][4] = {};
    multiply_rows<kColumns, kTileRows>(sums, tiles, tiles + kTile);
    const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
    for (int j = 0; j < kTileRows / 8; ++j) {
      for (int i = 0; i < 4; ++i) {
        const int row = warp * 16 + lane / 4 + i / 2 * 8, column = 8 * j + 2 * (lane % 4) + i % 2;
        result[static_cast<size_t>(row * kTileRows + column)] = sums[j][i];
      }
    }
  });
  for (int row = 0; row < kTileRows; ++row) {
    for (int column = 0; column < kTileRows; ++column) {
      float expected = 0;
      for (int k = 0; k < width && row != 5 && column != 5; ++k) {
        expected += to_float(a[static_cast<size_t>(row * kColumns + k)]) *
                    to_float(b[static_cast<size_t>(column * kColumns + k)]);
      }
      if (result[static_cast<size_t>(row * kTileRows + column)] != expected) {
        FAIL("row " << row << ", column " << column);
      }
    }
  }
}

TEST_CASE("cuda gate: the best list keeps the largest claims of any stream") {
  const int capacity = GENERATE(1, 3, 32, 100), num_offers = GENERATE(1, 4, 20);
  CAPTURE(capacity, num_offers);
  RandomTensors random(static_cast<uint32_t>(capacity + num_offers));
  const auto scores = random.integers(static_cast<size_t>(32 * num_offers), -6, 6);
  std::vector<uint64_t> expected;
  for (size_t i = 0; i < scores.size(); ++i) {
    expected.push_back(claim_of(static_cast<float>(scores[i]), static_cast<int32_t>(i)));
  }
  std::vector<uint64_t> kept(static_cast<size_t>(capacity));
  int count = 0;
  emulator::run_grid("test", {1, 1, 1}, {kWarpSize, 1, 1}, 0, [&] {
    BestList best(kept.data(), capacity, BestListState{});
    const auto lane = static_cast<size_t>(threadIdx.x);
    for (size_t i = 0; i < static_cast<size_t>(num_offers); ++i) {
      const size_t at = 32 * i + lane;
      best.offer(claim_of(static_cast<float>(scores[at]), static_cast<int32_t>(at)));
    }
    if (lane == 0) count = best.state().count;
  });
  std::ranges::sort(expected, std::greater<>());
  expected.resize(std::min(expected.size(), static_cast<size_t>(capacity)));
  REQUIRE(count == static_cast<int>(expected.size()));
  kept.resize(expected.size());
  std::ranges::sort(kept, std::greater<>());
  CHECK(kept == expected);
}

TEST_CASE("cuda gate: claims order as the contract orders blocks") {
  const float inf = HUGE_VALF, nan = std::bit_cast<float>(0x7FC00000u);
  const std::vector<float> ascending{-inf, -2.5f, -1e-40f, 0.0f, 1e-40f, 3.0f, inf};
  for (size_t i = 0; i + 1 < ascending.size(); ++i) {
    CHECK(claim_of(ascending[i], 9) < claim_of(ascending[i + 1], 0));
  }
  CHECK(claim_of(-0.0f, 3) == claim_of(0.0f, 3));
  CHECK(claim_of(-0.0f, 4) > claim_of(0.0f, 3));
  CHECK(claim_of(nan, 3) == claim_of(-inf, 3));
  CHECK(claim_of(-nan, 0) > 0);
  CHECK(block_of(claim_of(-7.0f, 8191)) == 8191);
}

}  // namespace
}  // namespace quire::cuda
