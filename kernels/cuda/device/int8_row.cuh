#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/access.cuh"
#include "kernels/int8_grid.h"

// How rows become 8-bit integers, with the bits of kernels/int8_grid.h and ops/append_kv.h. Sizes
// are compared as the bits of magnitudes, which order as the numbers do, NaN above infinity.

namespace quire::cuda {

inline constexpr unsigned kInfinityBits = 0x7F800000u;
inline constexpr unsigned kNanBits = 0x7FC00000u;

__device__ __forceinline__ unsigned magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7FFFFFFFu;
}

/// int8_grid of a row whose largest magnitude has these bits.
__device__ __forceinline__ Int8Grid int8_grid_of(unsigned largest) {
  if (largest >= kInfinityBits) return {__uint_as_float(kNanBits), 0.0f};
  const float magnitude = __uint_as_float(largest);
  if (magnitude < kSmallestInt8Row) return {0.0f, 0.0f};
  return {magnitude / kLargestInt8, kLargestInt8 / magnitude};
}

/// The scale of a cached row whose largest magnitude has these bits.
__device__ __forceinline__ BFloat16 cached_scale_of(unsigned largest) {
  if (largest >= kInfinityBits) return narrow(__uint_as_float(kNanBits));
  const float step = __uint_as_float(largest) / kLargestInt8;
  BFloat16 scale = narrow(step);
  if (widen(scale) < step) ++scale.bits;  // rounded up
  return scale;
}

/// An element of a cached row with this scale.
__device__ __forceinline__ int8_t cached_integer_of(float value, float scale) {
  if (!(scale > 0)) return 0;  // zeros, or NaN
  return static_cast<int8_t>(fmaxf(-kLargestInt8, fminf(rintf(value / scale), kLargestInt8)));
}

}  // namespace quire::cuda
