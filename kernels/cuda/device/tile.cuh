#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/cuda/device/ptx.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/plan.h"

// Tiles of bf16 rows in shared memory, and their products on tensor cores. A tile's rows lie
// kColumns + 8 elements apart: the 16 bytes shift the banks from row to row, so that the eight rows
// of a matrix load never meet in one bank.
//
// Every product of a row with a column is one chain of 16-wide steps in order of k, so its bits
// depend on neither the row's place in the tile nor on the other rows.

namespace quire::cuda {

/// Four warps; each owns 16 of a tile's kTileRows and sees all columns.
inline constexpr int kTileThreads = 128;
static_assert(kTileThreads / kWarpSize * 16 == kTileRows);

template <int kColumns>
inline constexpr int kTileStride = kColumns + 8;

/// Starts to fill `kRows` rows of a tile with `width` elements each, zeros behind them.
/// `row_of(r)`: the row's first element, or nullptr for a row of zeros. `is_aligned`: width and all
/// rows are multiples of 16 bytes; such copies are asynchronous, others are done on return of every
/// thread. `anywhere`: some address of global memory.
template <int kRows, int kColumns, class RowOf>
__device__ __forceinline__ void load_tile(BFloat16* tile, int width, bool is_aligned,
                                          const BFloat16* anywhere, const RowOf& row_of) {
  constexpr int kChunks = kColumns / 8;
  if (is_aligned) {
    // Wide rows leave no registers for addresses side by side.
#pragma unroll(kColumns <= 128 ? 4 : 1)
    for (int index = threadIdx.x; index < kRows * kChunks; index += kTileThreads) {
      const int r = index / kChunks, column = index % kChunks * 8;
      const BFloat16* row = row_of(r);
      const bool is_valid = row != nullptr && column < width;
      ptx::copy_async_16(tile + r * kTileStride<kColumns> + column,
                         is_valid ? row + column : anywhere, is_valid);
    }
    return;
  }
#pragma unroll 1
  for (int index = threadIdx.x; index < kRows * kColumns; index += kTileThreads) {
    const int r = index / kColumns, column = index % kColumns;
    const BFloat16* row = row_of(r);
    tile[r * kTileStride<kColumns> + column] =
        row != nullptr && column < width ? row[column] : BFloat16{};
  }
}

/// Operand a of a product: rows [row, row + 16), columns [column, column + 16) of a tile.
template <int kColumns>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const BFloat16* tile, int row,
                                       int column) {
  const int lane = threadIdx.x % kWarpSize;
  ptx::load_matrices(a, tile + (row + lane % 16) * kTileStride<kColumns> + column + lane / 16 * 8);
}

/// Operand b of two products by the rows [row, row + 16) of a tile, transposed: b[0], b[1] for the
/// first eight rows, b[2], b[3] for the others.
template <int kColumns>
__device__ __forceinline__ void load_b_of_rows(uint32_t (&b)[4], const BFloat16* tile, int row,
                                               int column) {
  const int lane = threadIdx.x % kWarpSize;
  ptx::load_matrices(b, tile + (row + lane / 16 * 8 + lane % 8) * kTileStride<kColumns> + column +
                            lane / 8 % 2 * 8);
}

/// Operand b of two products by the rows [row, row + 16) of a tile as they are: b[0], b[1] for
/// columns [column, column + 8), b[2], b[3] for the eight behind them.
template <int kColumns>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], const BFloat16* tile, int row,
                                       int column) {
  const int lane = threadIdx.x % kWarpSize;
  ptx::load_matrices_transposed(
      b, tile + (row + lane % 16) * kTileStride<kColumns> + column + lane / 16 * 8);
}

/// sums += (this warp's 16 rows of `a`) * (kBRows rows of `b`)^T. In sums[j], as ptx.cuh lays d
/// out: columns 8j .. 8j + 7.
/// With sums of integers, an element of the tiles is a pair of 8-bit integers.
template <int kColumns, int kBRows, class Number>
__device__ __forceinline__ void multiply_rows(Number (&sums)[kBRows / 8][4], const BFloat16* a,
                                              const BFloat16* b) {
  const int first_row = threadIdx.x / kWarpSize * 16;
#pragma unroll
  for (int k = 0; k < kColumns; k += 16) {
    uint32_t a_part[4];
    load_a<kColumns>(a_part, a, first_row, k);
#pragma unroll
    for (int n = 0; n < kBRows; n += 16) {
      uint32_t b_part[4];
      load_b_of_rows<kColumns>(b_part, b, n, k);
      ptx::multiply_accumulate(sums[n / 8], a_part, b_part[0], b_part[1]);
      ptx::multiply_accumulate(sums[n / 8 + 1], a_part, b_part[2], b_part[3]);
    }
  }
}

/// Calls `store(row, column, sum)` for the sums that this thread holds; rows and columns count from
/// the tile's first.
template <int kColumns, class Number, class Store>
__device__ __forceinline__ void for_each_sum(const Number (&sums)[kColumns / 8][4],
                                             const Store& store) {
  const int lane = threadIdx.x % kWarpSize;
  const int row = threadIdx.x / kWarpSize * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      store(row + i / 2 * 8, 8 * j + 2 * (lane % 4) + i % 2, sums[j][i]);
    }
  }
}

}  // namespace quire::cuda
