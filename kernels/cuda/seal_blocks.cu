#include "kernels/ops/seal_blocks.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/ptx.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRunsAtOnce = 16;  // sub-sums that fit shared memory together

struct Pool {
  const void* k;
  const BFloat16* k_scales;  // of an int8 pool, else nullptr
  BFloat16* centroids;       // or other digests
  int64_t num_blocks, num_kv_heads, block_size, head_dim;

  /// Element i of the key in a row of the pool.
  __device__ __forceinline__ float key(int64_t row, int64_t i) const {
    const int64_t at = row * head_dim + i;
    if (k_scales == nullptr) return widen(static_cast<const BFloat16*>(k)[at]);
    return static_cast<float>(static_cast<const int8_t*>(k)[at]) * widen(k_scales[row]);
  }
};

/// out[i] = join over the keys of one tile of `term(row, i)`, begun with `identity`: the runs of
/// kCentroidRun tokens are joined side by side, a thread per (run, column), each in token order;
/// then a thread per column joins them in the order of runs. That is the order of the contract, so
/// the bits are the reference's. `of_runs`: [kRunsAtOnce, head_dim] to work in. All threads call
/// it.
template <class Term, class Join>
__device__ __forceinline__ void join_in_runs(const Pool& pool, int64_t tile, float* of_runs,
                                             float* out, float identity, const Term& term,
                                             const Join& join) {
  const int64_t d = pool.head_dim;
  for (int64_t i = threadIdx.x; i < d; i += kThreads) out[i] = identity;
  const int64_t num_runs = (pool.block_size + kCentroidRun - 1) / kCentroidRun;
  for (int64_t first = 0; first < num_runs; first += kRunsAtOnce) {
    const int64_t num_here = min(static_cast<int64_t>(kRunsAtOnce), num_runs - first);
    for (int64_t index = threadIdx.x; index < num_here * d; index += kThreads) {
      const int64_t begin = (first + index / d) * kCentroidRun;
      const int64_t end = min(begin + kCentroidRun, pool.block_size);
      float joined = identity;
      for (int64_t j = begin; j < end; ++j) {
        joined = join(joined, term(tile * pool.block_size + j, index % d));
      }
      of_runs[index] = joined;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < d; i += kThreads) {
      for (int64_t run = 0; run < num_here; ++run) out[i] = join(out[i], of_runs[run * d + i]);
    }
    __syncthreads();
  }
}

__device__ __forceinline__ float add(float a, float b) { return a + b; }

/// The place of this thread block's (block, KV head) in the pool; -1, and a report, if there is
/// none.
__device__ __forceinline__ int64_t tile_of(const Pool& pool, const int32_t* block_ids,
                                           FaultSink faults) {
  const int64_t block = block_ids[blockIdx.x];
  if (block >= 0 && block < pool.num_blocks) return block * pool.num_kv_heads + blockIdx.y;
  if (threadIdx.x == 0) report(faults, FaultKind::kBlock, block, pool.num_blocks);
  return -1;
}

/// One thread block per (block, KV head). Dynamic shared memory: (kRunsAtOnce + 1) * head_dim.
__global__ void seal_blocks_kernel(Pool pool, const int32_t* block_ids, FaultSink faults) {
  auto* of_runs = reinterpret_cast<float*>(ptx::dynamic_shared_memory());
  const int64_t tile = tile_of(pool, block_ids, faults), d = pool.head_dim;
  if (tile < 0) return;
  float* sums = of_runs + kRunsAtOnce * d;
  const auto key = [&](int64_t row, int64_t i) { return pool.key(row, i); };
  join_in_runs(pool, tile, of_runs, sums, 0.0f, key, add);
  const float inverse = 1.0f / static_cast<float>(pool.block_size);
  for (int64_t i = threadIdx.x; i < d; i += kThreads) {
    pool.centroids[tile * d + i] = narrow(sums[i] * inverse);
  }
}

/// The same for bounds, lower and upper ones, and for the cuboid that lies within them about the
/// same middle (block_digest.h). Dynamic shared memory: (kRunsAtOnce + 3) * head_dim.
__global__ void seal_bounds_kernel(Pool pool, bool is_cuboid_mean, const int32_t* block_ids,
                                   FaultSink faults) {
  auto* of_runs = reinterpret_cast<float*>(ptx::dynamic_shared_memory());
  const int64_t tile = tile_of(pool, block_ids, faults), d = pool.head_dim;
  if (tile < 0) return;
  float* low = of_runs + kRunsAtOnce * d;
  float* high = low + d;
  float* distances = high + d;
  const auto key = [&](int64_t row, int64_t i) { return pool.key(row, i); };
  // NaN once there was one.
  join_in_runs(pool, tile, of_runs, low, INFINITY, key,
               [](float a, float b) { return b < a || b != b ? b : a; });
  join_in_runs(pool, tile, of_runs, high, -INFINITY, key,
               [](float a, float b) { return b > a || b != b ? b : a; });
  if (is_cuboid_mean) {
    const auto distance = [&](int64_t row, int64_t i) {
      return fabsf(pool.key(row, i) - (low[i] + high[i]) / 2);
    };
    join_in_runs(pool, tile, of_runs, distances, 0.0f, distance, add);
    const float inverse = 1.0f / static_cast<float>(pool.block_size);
    for (int64_t i = threadIdx.x; i < d; i += kThreads) {
      const float centre = (low[i] + high[i]) / 2, radius = distances[i] * inverse;
      low[i] = centre - radius;
      high[i] = centre + radius;
    }
  }
  // A thread reads the columns that it wrote.
  for (int64_t i = threadIdx.x; i < d; i += kThreads) {
    pool.centroids[tile * 2 * d + i] = narrow(low[i]);
    pool.centroids[tile * 2 * d + d + i] = narrow(high[i]);
  }
}

}  // namespace

void seal_blocks(const SealBlocksParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  const Pool pool{kv.k.data,
                  static_cast<const BFloat16*>(kv.k_scales.data),
                  static_cast<BFloat16*>(kv.centroids.data),
                  kv.num_blocks(),
                  kv.num_kv_heads(),
                  kv.block_size(),
                  kv.head_dim()};
  const dim3 grid{static_cast<unsigned>(params.block_ids.shape[0]),
                  static_cast<unsigned>(kv.num_kv_heads()), 1};
  const auto* block_ids = static_cast<const int32_t*>(params.block_ids.data);
  const auto shared_bytes = [&](int arrays) {
    return static_cast<size_t>((kRunsAtOnce + arrays) * kv.head_dim()) * sizeof(float);
  };
  if (kv.digest == BlockDigest::kMean) {
    launch(stream, seal_blocks_kernel, grid, dim3{kThreads, 1, 1}, shared_bytes(1), pool, block_ids,
           stream.faults());
  } else {
    launch(stream, seal_bounds_kernel, grid, dim3{kThreads, 1, 1}, shared_bytes(3), pool,
           kv.digest == BlockDigest::kCuboidMean, block_ids, stream.faults());
  }
}

}  // namespace quire::cuda
