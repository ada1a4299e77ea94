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
  BFloat16* centroids;
  int64_t num_blocks, num_kv_heads, block_size, head_dim;

  /// Element i of the key in a row of the pool.
  __device__ __forceinline__ float key(int64_t row, int64_t i) const {
    const int64_t at = row * head_dim + i;
    if (k_scales == nullptr) return widen(static_cast<const BFloat16*>(k)[at]);
    return static_cast<float>(static_cast<const int8_t*>(k)[at]) * widen(k_scales[row]);
  }
};

/// One thread block per (block, KV head). The runs of kCentroidRun tokens are summed side by side,
/// a thread per (run, column), each in token order; then a thread per column adds the sub-sums in
/// the order of runs. That is the contract's order, so the bits are the reference's.
__global__ void seal_blocks_kernel(Pool pool, const int32_t* block_ids, FaultSink faults) {
  // [kRunsAtOnce, head_dim], then [head_dim] sums
  auto* sub_sums = reinterpret_cast<float*>(ptx::dynamic_shared_memory());
  const int64_t block = block_ids[blockIdx.x];
  if (block < 0 || block >= pool.num_blocks) {
    if (threadIdx.x == 0) report(faults, FaultKind::kBlock, block, pool.num_blocks);
    return;
  }
  const int64_t d = pool.head_dim;
  const int64_t tile = block * pool.num_kv_heads + blockIdx.y;
  float* sums = sub_sums + kRunsAtOnce * d;
  for (int64_t i = threadIdx.x; i < d; i += kThreads) sums[i] = 0;
  const int64_t num_runs = (pool.block_size + kCentroidRun - 1) / kCentroidRun;
  for (int64_t first = 0; first < num_runs; first += kRunsAtOnce) {
    const int64_t num_here = min(static_cast<int64_t>(kRunsAtOnce), num_runs - first);
    for (int64_t index = threadIdx.x; index < num_here * d; index += kThreads) {
      const int64_t begin = (first + index / d) * kCentroidRun;
      const int64_t end = min(begin + kCentroidRun, pool.block_size);
      float sum = 0;
      for (int64_t j = begin; j < end; ++j) {
        sum += pool.key(tile * pool.block_size + j, index % d);
      }
      sub_sums[index] = sum;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < d; i += kThreads) {
      for (int64_t run = 0; run < num_here; ++run) sums[i] += sub_sums[run * d + i];
    }
    __syncthreads();
  }
  const float inverse = 1.0f / static_cast<float>(pool.block_size);
  for (int64_t i = threadIdx.x; i < d; i += kThreads) {
    pool.centroids[tile * d + i] = narrow(sums[i] * inverse);
  }
}

}  // namespace

void seal_blocks(const SealBlocksParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  QUIRE_CHECK(kv.digest == BlockDigest::kMean)
      << "seal_blocks: this backend has digest mean only, actual " << digest_name(kv.digest);
  const Pool pool{kv.k.data,
                  static_cast<const BFloat16*>(kv.k_scales.data),
                  static_cast<BFloat16*>(kv.centroids.data),
                  kv.num_blocks(),
                  kv.num_kv_heads(),
                  kv.block_size(),
                  kv.head_dim()};
  const auto shared_bytes = static_cast<size_t>((kRunsAtOnce + 1) * kv.head_dim()) * sizeof(float);
  launch(stream, seal_blocks_kernel,
         dim3{static_cast<unsigned>(params.block_ids.shape[0]),
              static_cast<unsigned>(kv.num_kv_heads()), 1},
         dim3{kThreads, 1, 1}, shared_bytes, pool,
         static_cast<const int32_t*>(params.block_ids.data), stream.faults());
}

}  // namespace quire::cuda
