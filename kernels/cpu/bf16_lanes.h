#pragma once

#include "kernels/cpu/simd_rows.h"
#include "kernels/cpu/x86_intrinsics.h"

// What the kernels for AVX512_BF16 have in common: registers of 16 f32, or of 16 pairs of bf16.

#if defined(__x86_64__)
#define QUIRE_BF16_DOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))

namespace quire::cpu::bf16_lanes {

constexpr int kLanes = 16;                                      // f32, or pairs of bf16
constexpr int kVectors = static_cast<int>(kTileKeys) / kLanes;  // of one tile

/// The 16 x 16 words of `rows` with rows and columns exchanged.
QUIRE_BF16_DOT inline void transpose(__m512i (&rows)[kLanes]) {
  __m512i t[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < kLanes; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Now row 4a + b has, in quarter q, column 4q + b of rows 4a to 4a + 3.
  for (int b = 0; b < 4; ++b) {
    const __m512i low01 = _mm512_shuffle_i32x4(rows[b], rows[4 + b], 0x88);
    const __m512i odd01 = _mm512_shuffle_i32x4(rows[b], rows[4 + b], 0xDD);
    const __m512i low23 = _mm512_shuffle_i32x4(rows[8 + b], rows[12 + b], 0x88);
    const __m512i odd23 = _mm512_shuffle_i32x4(rows[8 + b], rows[12 + b], 0xDD);
    t[b] = _mm512_shuffle_i32x4(low01, low23, 0x88);
    t[4 + b] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
    t[8 + b] = _mm512_shuffle_i32x4(low01, low23, 0xDD);
    t[12 + b] = _mm512_shuffle_i32x4(odd01, odd23, 0xDD);
  }
  for (int i = 0; i < kLanes; ++i) rows[i] = t[i];
}

/// sums += the products of two pairs of bf16 per lane. Not the intrinsic: around it, GCC 12 moves
/// most of the accumulators to the stack and back.
QUIRE_BF16_DOT inline void add_products(__m512& sums, __m512 a, __m512 b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
}

}  // namespace quire::cpu::bf16_lanes

#endif
