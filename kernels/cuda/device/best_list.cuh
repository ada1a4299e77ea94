#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/reduce.cuh"

namespace quire::cuda {

/// A block's claim to be selected, as one number to compare: the score's image in the upper half
/// and the block's index in the lower: of equal scores the more recent block wins. No claim is 0,
/// which is "none".
__device__ __forceinline__ uint64_t claim_of(float score, int32_t block) {
  return static_cast<uint64_t>(image_of(score)) << 32 | static_cast<uint32_t>(block);
}

__device__ __forceinline__ int32_t block_of(uint64_t claim) {
  return static_cast<int32_t>(static_cast<uint32_t>(claim));
}

/// What a list remembers beside its claims. Zeros: empty.
struct BestListState {
  uint64_t least;  // claim that others must beat; 0 until the list is full
  int32_t least_at;
  int32_t count;
};

/// The largest claims seen so far, kept by one warp in no order. Claims are distinct. Exact: what
/// is dropped is smaller than everything that is kept.
class BestList {
 public:
  /// Takes up a list. `claims`: room for `capacity` >= 1, in memory of this warp alone.
  __device__ __forceinline__ BestList(uint64_t* claims, int capacity, const BestListState& state)
      : claims_(claims), capacity_(capacity), state_(state) {}

  __device__ __forceinline__ const BestListState& state() const { return state_; }

  /// Every lane offers one claim, or 0.
  __device__ __forceinline__ void offer(uint64_t claim) {
    unsigned better = __ballot_sync(kAllLanes, claim > state_.least);
    while (better != 0) {
      const int lane = __ffs(better) - 1;
      better &= better - 1;
      const uint64_t candidate = __shfl_sync(kAllLanes, claim, lane);
      if (candidate > state_.least) insert(candidate);
    }
  }

 private:
  __device__ __forceinline__ void insert(uint64_t claim) {
    const int at = state_.count < capacity_ ? state_.count++ : state_.least_at;
    if (threadIdx.x % kWarpSize == 0) claims_[at] = claim;
    __syncwarp();
    if (state_.count == capacity_) find_least();
  }

  /// Only a full list has a least claim that others must beat.
  __device__ __forceinline__ void find_least() {
    const int lane = threadIdx.x % kWarpSize;
    uint64_t least = UINT64_MAX;
    int at = 0;
    for (int i = lane; i < capacity_; i += kWarpSize) {
      if (claims_[i] < least) {
        least = claims_[i];
        at = i;
      }
    }
    uint64_t least_of_all = least;
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      const uint64_t other = __shfl_xor_sync(kAllLanes, least_of_all, distance);
      if (other < least_of_all) least_of_all = other;
    }
    const int owner = __ffs(__ballot_sync(kAllLanes, least == least_of_all)) - 1;
    state_.least_at = __shfl_sync(kAllLanes, at, owner);
    state_.least = least_of_all;
  }

  uint64_t* claims_;
  int capacity_;
  BestListState state_;
};

}  // namespace quire::cuda
