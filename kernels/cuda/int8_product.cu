#include "kernels/cuda/int8_product.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/int8_row.cuh"
#include "kernels/cuda/device/product_tile.cuh"
#include "kernels/cuda/device/tile.cuh"
#include "kernels/cuda/launch.cuh"

namespace quire::cuda {
namespace {

constexpr int kQuantiseThreads = 256;
constexpr int kOutColumns = 64;
constexpr int kPairs = kProductDepth;  // of integers: a tile's elements are pairs
constexpr int kTile = kTileRows * kTileStride<kPairs>;
static_assert(kOutColumns == kTileRows);

/// A block per row.
__global__ void quantise_kernel(FloatRows from, int64_t num_columns, Int8Rows to) {
  const int64_t row = blockIdx.x, first = row * from.stride0;
  unsigned largest = 0;
  for (int64_t i = threadIdx.x; i < num_columns; i += kQuantiseThreads) {
    largest = max(largest, magnitude_bits(load(from, first + i)));
  }
  const Int8Grid grid = int8_grid_of(block_reduce<kQuantiseThreads>(largest, Largest()));
  if (threadIdx.x == 0) to.scales[row] = grid.scale;
  for (int64_t i = threadIdx.x; i < to.pitch; i += kQuantiseThreads) {
    const bool is_zero = i >= num_columns || grid.inverse == 0;
    to.values[row * to.pitch + i] =
        is_zero ? int8_t{0} : static_cast<int8_t>(rintf(load(from, first + i) * grid.inverse));
  }
}

/// One 64 x 64 tile of the result per block; k in steps of 128 integers, the next step's rows under
/// way while this one is multiplied.
__global__ void __launch_bounds__(kTileThreads, kProductBlocksAtOnce)
    int8_product_kernel(Int8Rows a, Int8Rows weight, Rows<float> out) {
  auto* const tiles = reinterpret_cast<BFloat16*>(ptx::dynamic_shared_memory());
  const int64_t first_m = static_cast<int64_t>(blockIdx.y) * kTileRows;
  const int64_t first_n = static_cast<int64_t>(blockIdx.x) * kOutColumns;
  const int64_t num_pairs = a.pitch / 2;
  const auto load_step = [&](int64_t step) {
    const int64_t first = step * kPairs;
    const int width = static_cast<int>(min(static_cast<int64_t>(kPairs), num_pairs - first));
    BFloat16* const tile = tiles + step % 2 * 2 * kTile;
    const auto load_rows = [&](BFloat16* to, const Int8Rows& from, int64_t first_row) {
      const auto* pairs = reinterpret_cast<const BFloat16*>(from.values);
      load_tile<kTileRows, kPairs>(to, width, true, pairs, [&](int r) -> const BFloat16* {
        return first_row + r < from.num_rows ? pairs + (first_row + r) * num_pairs + first
                                             : nullptr;
      });
    };
    load_rows(tile, a, first_m);
    load_rows(tile + kTile, weight, first_n);
  };

  const bool has_rows = first_m + threadIdx.x / kWarpSize * 16 < a.num_rows;  // this warp
  int32_t sums[kOutColumns / 8][4] = {};
  const int64_t num_steps = (num_pairs + kPairs - 1) / kPairs;
  for_each_step(num_steps, load_step, [&](int64_t step) {
    const BFloat16* tile = tiles + step % 2 * 2 * kTile;
    if (has_rows) multiply_rows<kPairs, kOutColumns>(sums, tile, tile + kTile);
  });

  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t m = first_m + threadIdx.x / kWarpSize * 16 + lane / 4 + i / 2 * 8;
    if (m >= a.num_rows) continue;
    const float scale = a.scales[m];
#pragma unroll
    for (int j = 0; j < kOutColumns / 8; ++j) {
      const int64_t n = first_n + 8 * j + 2 * (lane % 4) + i % 2;
      if (n >= weight.num_rows) continue;
      out.data[m * out.stride0 + n] = static_cast<float>(sums[j][i]) * scale * weight.scales[n];
    }
  }
}

}  // namespace

void quantise_rows(const ConstTensorView& from, const Int8Rows& to, const OpStream& stream) {
  launch(stream, quantise_kernel, dim3{static_cast<unsigned>(to.num_rows), 1, 1},
         dim3{kQuantiseThreads, 1, 1}, 0, float_rows_of(from), from.shape[1], to);
}

void int8_product(const Int8Rows& a, const Int8Rows& weight, const TensorView& out,
                  const OpStream& stream) {
  launch_product<kOutColumns>(stream, int8_product_kernel, a.num_rows, weight.num_rows, a, weight,
                              rows_of<float>(out));
}

}  // namespace quire::cuda
