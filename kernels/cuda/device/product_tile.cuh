#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device/tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/plan.h"

// How products on tensor cores are cut. A block computes one tile of the result, in steps of k; the
// rows of two steps fit into its shared memory, so that one is multiplied while the next one comes.

namespace quire::cuda {

inline constexpr int kProductDepth = 64;  // elements of k in a step
/// Blocks of a multiprocessor; as many registers as this leaves.
inline constexpr int kProductBlocksAtOnce = 4;

/// The steps of k in order. `begin(step)` starts to fetch a step's rows; `complete(step)` ends what
/// copies alone can not do, before the next step begins; `multiply(step)` may read all of its rows.
template <class Begin, class Complete, class Multiply>
__device__ __forceinline__ void for_each_step(int64_t num_steps, const Begin& begin,
                                              const Complete& complete, const Multiply& multiply) {
  begin(0);
  ptx::commit_copies();
  for (int64_t step = 0; step < num_steps; ++step) {
    complete(step);
    if (step + 1 < num_steps) begin(step + 1);
    ptx::commit_copies();
    ptx::wait_copies<1>();
    __syncthreads();
    multiply(step);
    __syncthreads();
  }
}

/// The same where copies do it all.
template <class Begin, class Multiply>
__device__ __forceinline__ void for_each_step(int64_t num_steps, const Begin& begin,
                                              const Multiply& multiply) {
  for_each_step(
      num_steps, begin, [](int64_t) {}, multiply);
}

/// Calls `with(std::integral_constant<int, N>)` for the columns of a result's tiles. Few rows do
/// not fill a device with wide tiles: with narrow ones their weight is read by more blocks.
template <class With>
void for_product_columns(int64_t num_rows, const With& with) {
  if (num_rows <= kTileRows) {
    with(std::integral_constant<int, 16>());
  } else {
    with(std::integral_constant<int, 64>());
  }
}

/// A block for every tile of kTileRows by `kOutColumns` of a result.
template <int kOutColumns, class... Parameters, class... Arguments>
void launch_product(const OpStream& stream, void (*kernel)(Parameters...), int64_t num_rows,
                    int64_t num_columns, const Arguments&... arguments) {
  constexpr size_t kSharedBytes =
      2 * (kTileRows + kOutColumns) * kTileStride<kProductDepth> * sizeof(BFloat16);
  launch(stream, kernel,
         dim3{blocks_for(num_columns, kOutColumns), blocks_for(num_rows, kTileRows), 1},
         dim3{kTileThreads, 1, 1}, kSharedBytes, arguments...);
}

}  // namespace quire::cuda
