#pragma once

// The part of CUDA's C++ dialect that kernels/cuda uses, on the emulated device.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <source_location>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// A block stays on one thread of the machine, and all its fibers with it.
#define __shared__ static thread_local
#define threadIdx (quire::emulator::place().thread_index)
#define blockIdx (quire::emulator::place().block_index)
#define blockDim (quire::emulator::place().block_dim)
#define gridDim (quire::emulator::place().grid_dim)

struct float2 {
  float x, y;
};
using dim3 = quire::emulator::Dim3;
using std::max;
using std::min;

inline void __syncthreads() { quire::emulator::block_barrier(); }

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(unsigned bits) { return bits == 0 ? 0 : std::countr_zero(bits) + 1; }

template <class T>
T atomicAdd(T* target, T value) {
  return __atomic_fetch_add(target, value, __ATOMIC_SEQ_CST);
}
template <class T>
T atomicCAS(T* target, T expected, T desired) {
  __atomic_compare_exchange_n(target, &expected, desired, false, __ATOMIC_SEQ_CST,
                              __ATOMIC_SEQ_CST);
  return expected;
}
inline void __threadfence_system() {}

namespace quire::emulator {

template <class T>
struct Shuffle {
  T value;
  int source;
  T result;
};

template <class T>
T shuffle(const Site& site, T value, int source) {
  Shuffle<T> mine{value, source, value};
  warp_collective(site, &mine, [](void* const* lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      auto& to = *static_cast<Shuffle<T>*>(lanes[lane]);
      if (to.source >= 0 && to.source < 32) {
        to.result = static_cast<Shuffle<T>*>(lanes[to.source])->value;
      }
    }
  });
  return mine.result;
}

inline int lane_of_this() { return static_cast<int>(place().flat_thread % 32); }

struct Vote {
  unsigned value;
  unsigned result;
};

}  // namespace quire::emulator

template <class T>
T __shfl_sync(unsigned, T value, int source,
              std::source_location where = std::source_location::current()) {
  return quire::emulator::shuffle({"__shfl_sync", where.line()}, value, source);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask,
                  std::source_location where = std::source_location::current()) {
  return quire::emulator::shuffle({"__shfl_xor_sync", where.line()}, value,
                                  quire::emulator::lane_of_this() ^ mask);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int delta,
                 std::source_location where = std::source_location::current()) {
  return quire::emulator::shuffle({"__shfl_up_sync", where.line()}, value,
                                  quire::emulator::lane_of_this() - delta);
}
inline void __syncwarp(std::source_location where = std::source_location::current()) {
  quire::emulator::warp_collective({"__syncwarp", where.line()}, nullptr, [](void* const*) {});
}
inline unsigned __ballot_sync(unsigned, bool vote,
                              std::source_location where = std::source_location::current()) {
  quire::emulator::Vote mine{vote, 0};
  quire::emulator::warp_collective({"__ballot_sync", where.line()}, &mine, [](void* const* lanes) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
      votes |= static_cast<quire::emulator::Vote*>(lanes[lane])->value << lane;
    }
    for (int lane = 0; lane < 32; ++lane) {
      static_cast<quire::emulator::Vote*>(lanes[lane])->result = votes;
    }
  });
  return mine.result;
}
inline unsigned __match_any_sync(unsigned, unsigned value,
                                 std::source_location where = std::source_location::current()) {
  quire::emulator::Vote mine{value, 0};
  quire::emulator::warp_collective(
      {"__match_any_sync", where.line()}, &mine, [](void* const* lanes) {
        for (int lane = 0; lane < 32; ++lane) {
          auto& to = *static_cast<quire::emulator::Vote*>(lanes[lane]);
          for (int other = 0; other < 32; ++other) {
            const bool equal = static_cast<quire::emulator::Vote*>(lanes[other])->value == to.value;
            to.result |= static_cast<unsigned>(equal) << other;
          }
        }
      });
  return mine.result;
}
