#include "kernels/ops/append_kv.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/int8_row.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;

struct Pool {
  void* k;
  void* v;
  BFloat16* k_scales;  // of an int8 pool
  BFloat16* v_scales;
  int64_t num_slots, num_kv_heads, block_size, head_dim;

  /// Number of the row in the pool that holds KV head g of the token in `slot`.
  __device__ __forceinline__ int64_t row_of(int64_t slot, int64_t g) const {
    return (slot / block_size * num_kv_heads + g) * block_size + slot % block_size;
  }
};

/// -1, and a report, for a slot outside of the pool.
__device__ __forceinline__ int64_t checked_slot(const int64_t* slots, const Pool& pool,
                                                const FaultSink& faults) {
  const int64_t slot = slots[blockIdx.x];
  if (slot >= 0 && slot < pool.num_slots) return slot;
  if (threadIdx.x == 0) report(faults, FaultKind::kSlot, slot, pool.num_slots);
  return -1;
}

/// A block per token.
__global__ void append_bf16_kernel(FloatRows key, FloatRows value, const int64_t* slots, Pool pool,
                                   FaultSink faults) {
  const int64_t t = blockIdx.x, slot = checked_slot(slots, pool, faults);
  if (slot < 0) return;
  for (int64_t index = threadIdx.x; index < pool.num_kv_heads * pool.head_dim; index += kThreads) {
    const int64_t g = index / pool.head_dim, i = index % pool.head_dim;
    const int64_t to = pool.row_of(slot, g) * pool.head_dim + i;
    static_cast<BFloat16*>(pool.k)[to] = narrow(load(key, t * key.stride0 + g * key.stride1 + i));
    static_cast<BFloat16*>(pool.v)[to] =
        narrow(load(value, t * value.stride0 + g * value.stride1 + i));
  }
}

/// A block per token, a warp per row of it: keys of all heads, then values.
__global__ void append_int8_kernel(FloatRows key, FloatRows value, const int64_t* slots, Pool pool,
                                   FaultSink faults) {
  const int64_t t = blockIdx.x, slot = checked_slot(slots, pool, faults);
  if (slot < 0) return;
  const int lane = threadIdx.x % kWarpSize;
  for (int64_t n = threadIdx.x / kWarpSize; n < 2 * pool.num_kv_heads; n += kWarps) {
    const bool is_key = n < pool.num_kv_heads;
    const int64_t g = is_key ? n : n - pool.num_kv_heads;
    const FloatRows from = is_key ? key : value;
    const int64_t first = t * from.stride0 + g * from.stride1, row = pool.row_of(slot, g);
    unsigned largest = 0;
    for (int64_t i = lane; i < pool.head_dim; i += kWarpSize) {
      largest = max(largest, magnitude_bits(load(from, first + i)));
    }
    largest = warp_reduce(largest, Largest());
    const BFloat16 scale = cached_scale_of(largest);
    if (lane == 0) (is_key ? pool.k_scales : pool.v_scales)[row] = scale;
    auto* const to = static_cast<int8_t*>(is_key ? pool.k : pool.v) + row * pool.head_dim;
    for (int64_t i = lane; i < pool.head_dim; i += kWarpSize) {
      to[i] = cached_integer_of(load(from, first + i), widen(scale));
    }
  }
}

}  // namespace

void append_kv(const AppendKvParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  const Pool pool{kv.k.data,
                  kv.v.data,
                  static_cast<BFloat16*>(kv.k_scales.data),
                  static_cast<BFloat16*>(kv.v_scales.data),
                  kv.num_blocks() * kv.block_size(),
                  kv.num_kv_heads(),
                  kv.block_size(),
                  kv.head_dim()};
  launch(stream, kv.is_int8() ? append_int8_kernel : append_bf16_kernel,
         dim3{static_cast<unsigned>(params.slots.shape[0]), 1, 1}, dim3{kThreads, 1, 1}, 0,
         float_rows_of(params.key), float_rows_of(params.value),
         static_cast<const int64_t*>(params.slots.data), pool, stream.faults());
}

}  // namespace quire::cuda
