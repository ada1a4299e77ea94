#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace quire::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;
inline constexpr int kWarpSize = 32;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Largest {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

/// Larger numbers have larger images; NaN is -inf, and the zeros are equal. No image is 0.
__device__ __forceinline__ unsigned image_of(float number) {
  const float ordered = number != number ? -INFINITY : number + 0.0f;  // -0 + 0 is +0
  const unsigned bits = __float_as_uint(ordered);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/// In every lane, the lanes' values combined as one fixed tree.
template <class T, class Combine>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

/// In every thread, all threads' values combined, always in the same order. `kThreads` is the
/// block's size.
template <int kThreads, class T, class Combine>
__device__ __forceinline__ T block_reduce(T value, Combine combine) {
  constexpr int kWarps = kThreads / kWarpSize;
  __shared__ T of_warp[kWarps];
  value = warp_reduce(value, combine);
  __syncthreads();  // a reduction before this one may still be read
  if (threadIdx.x % kWarpSize == 0) of_warp[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  T result = of_warp[0];
  for (int w = 1; w < kWarps; ++w) result = combine(result, of_warp[w]);
  return result;
}

/// The sum of the values of all threads before this one; `total`: of all.
template <int kThreads, class T>
__device__ __forceinline__ T block_exclusive_sum(T value, T& total) {
  constexpr int kWarps = kThreads / kWarpSize;
  __shared__ T of_warp[kWarps];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  T inclusive = value;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const T before = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += before;
  }
  __syncthreads();
  if (lane == kWarpSize - 1) of_warp[warp] = inclusive;
  __syncthreads();
  T before = 0;
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += of_warp[w];
    total += of_warp[w];
  }
  return before + inclusive - value;
}

}  // namespace quire::cuda
