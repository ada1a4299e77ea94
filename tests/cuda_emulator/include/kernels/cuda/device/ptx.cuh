#pragma once

// The emulated device's twin of kernels/cuda/device/ptx.cuh: the same functions with the meaning
// that the PTX ISA gives them, fragment layouts included.

#include <cuda_runtime.h>

#include "kernels/bfloat16.h"

namespace quire::cuda::ptx {

inline unsigned char* dynamic_shared_memory() { return emulator::dynamic_shared_memory(); }

inline void copy_async_16(void* shared, const void* global, bool is_valid) {
  emulator::require_alignment(shared, "cp.async");
  emulator::require_alignment(global, "cp.async");
  emulator::queue_copy(shared, global, is_valid ? 16 : 0, is_valid ? 0 : 16);
}
inline void commit_copies() { emulator::commit_copies(); }
template <int kPending>
void wait_copies() {
  emulator::wait_copies(kPending);
}

struct MatrixLoad {
  const void* row;
  uint32_t* result;
};

inline uint32_t pair_of(uint16_t low, uint16_t high) {
  return static_cast<uint32_t>(high) << 16 | low;
}

/// Four 8x8 matrices of 16-bit elements; lane l gives row l % 8 of matrix l / 8. Thread t receives
/// of each matrix the elements 2 * (t % 4) and + 1 of row t / 4.
inline void load_matrices(uint32_t (&result)[4], const void* row) {
  emulator::require_alignment(row, "ldmatrix");
  MatrixLoad mine{row, result};
  emulator::warp_collective({"ldmatrix", 0}, &mine, [](void* const* lanes) {
    for (int t = 0; t < 32; ++t) {
      for (int m = 0; m < 4; ++m) {
        const auto* from =
            static_cast<const uint16_t*>(static_cast<MatrixLoad*>(lanes[8 * m + t / 4])->row);
        static_cast<MatrixLoad*>(lanes[t])->result[m] =
            pair_of(from[2 * (t % 4)], from[2 * (t % 4) + 1]);
      }
    }
  });
}

/// The same with each matrix transposed: elements 2 * (t % 4) and + 1 of its column t / 4.
inline void load_matrices_transposed(uint32_t (&result)[4], const void* row) {
  emulator::require_alignment(row, "ldmatrix");
  MatrixLoad mine{row, result};
  emulator::warp_collective({"ldmatrix.trans", 0}, &mine, [](void* const* lanes) {
    for (int t = 0; t < 32; ++t) {
      for (int m = 0; m < 4; ++m) {
        const auto element = [&](int r) {
          return static_cast<const uint16_t*>(
              static_cast<MatrixLoad*>(lanes[8 * m + r])->row)[t / 4];
        };
        static_cast<MatrixLoad*>(lanes[t])->result[m] =
            pair_of(element(2 * (t % 4)), element(2 * (t % 4) + 1));
      }
    }
  });
}

struct MatrixProduct {
  float* d;
  const uint32_t* a;
  uint32_t b0, b1;
};

inline float half_of(uint32_t pair, int index) {
  return to_float(BFloat16{static_cast<uint16_t>(index == 0 ? pair : pair >> 16)});
}

/// An f32 of a sum as tensor cores round it: towards zero (Fasi et al., "Numerical behavior of
/// NVIDIA tensor cores", 2021).
inline float truncated(double sum) {
  const auto rounded = static_cast<float>(sum);
  const bool is_larger = std::abs(static_cast<double>(rounded)) > std::abs(sum);
  return is_larger && std::isfinite(sum) ? std::nextafter(rounded, 0.0f) : rounded;
}

/// mma.sync.m16n8k16.row.col.f32.bf16.bf16.f32: d += a * b, in two sums of eight products, which is
/// how the older devices cut them.
inline void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MatrixProduct mine{d, a, b0, b1};
  emulator::warp_collective({"mma", 0}, &mine, [](void* const* lanes) {
    float a_full[16][16], b_full[16][8];
    for (int t = 0; t < 32; ++t) {
      const auto& lane = *static_cast<MatrixProduct*>(lanes[t]);
      const int group = t / 4, pair = 2 * (t % 4);
      for (int i = 0; i < 2; ++i) {
        a_full[group][pair + i] = half_of(lane.a[0], i);
        a_full[group + 8][pair + i] = half_of(lane.a[1], i);
        a_full[group][pair + 8 + i] = half_of(lane.a[2], i);
        a_full[group + 8][pair + 8 + i] = half_of(lane.a[3], i);
        b_full[pair + i][group] = half_of(lane.b0, i);
        b_full[pair + 8 + i][group] = half_of(lane.b1, i);
      }
    }
    float d_full[16][8];
    const auto each_result = [&](const auto& visit) {
      for (int t = 0; t < 32; ++t) {
        float* result = static_cast<MatrixProduct*>(lanes[t])->d;
        for (int i = 0; i < 4; ++i)
          visit(result[i], d_full[t / 4 + 8 * (i / 2)][2 * (t % 4) + i % 2]);
      }
    };
    each_result([](float lane_value, float& full) { full = lane_value; });
    for (int row = 0; row < 16; ++row) {
      for (int first = 0; first < 16; first += 8) {
        double sums[8];
        for (int n = 0; n < 8; ++n) sums[n] = d_full[row][n];
        for (int k = first; k < first + 8; ++k) {
          const double factor = a_full[row][k];
          for (int n = 0; n < 8; ++n) sums[n] += factor * b_full[k][n];
        }
        for (int n = 0; n < 8; ++n) d_full[row][n] = truncated(sums[n]);
      }
    }
    each_result([](float& lane_value, float full) { lane_value = full; });
  });
}

struct IntegerProduct {
  int32_t* d;
  const uint32_t* a;
  uint32_t b0, b1;
};

/// mma.sync.m16n8k32.row.col.s32.s8.s8.s32: d += a * b.
inline void multiply_accumulate(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  IntegerProduct mine{d, a, b0, b1};
  emulator::warp_collective({"mma.s8", 0}, &mine, [](void* const* lanes) {
    const auto byte_of = [](uint32_t word, int i) { return static_cast<int8_t>(word >> 8 * i); };
    int8_t a_full[16][32], b_full[8][32];  // b by columns
    for (int t = 0; t < 32; ++t) {
      const auto& lane = *static_cast<IntegerProduct*>(lanes[t]);
      const int group = t / 4, first = 4 * (t % 4);
      for (int i = 0; i < 4; ++i) {
        for (int part = 0; part < 4; ++part) {
          a_full[group + 8 * (part % 2)][first + 16 * (part / 2) + i] = byte_of(lane.a[part], i);
        }
        b_full[group][first + i] = byte_of(lane.b0, i);
        b_full[group][first + 16 + i] = byte_of(lane.b1, i);
      }
    }
    for (int t = 0; t < 32; ++t) {
      int32_t* result = static_cast<IntegerProduct*>(lanes[t])->d;
      for (int i = 0; i < 4; ++i) {
        const int row = t / 4 + 8 * (i / 2), column = 2 * (t % 4) + i % 2;
        for (int k = 0; k < 32; ++k) result[i] += a_full[row][k] * b_full[column][k];
      }
    }
  });
}

struct alignas(16) Words16 {
  uint32_t words[4];
};

inline Words16 load_shared_16(const void* shared) {
  emulator::require_alignment(shared, "ld.shared.v4");
  Words16 value;
  std::memcpy(&value, shared, sizeof value);
  return value;
}
inline void store_shared_16(void* shared, const Words16& value) {
  emulator::require_alignment(shared, "st.shared.v4");
  std::memcpy(shared, &value, sizeof value);
}

/// Two floats as bf16, rounded to nearest even, `low` in the lower half.
inline uint32_t pack_bf16(float low, float high) {
  return pair_of(to_bfloat16(low).bits, to_bfloat16(high).bits);
}

}  // namespace quire::cuda::ptx
