#pragma once

#include <cstdint>
#include <limits>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/bf16_lanes.h"

// From scores in registers to weights in bf16, in one place: whoever computes the scores and
// whoever multiplies the values, a row's softmax is the same sequence of operations.

#if defined(__x86_64__)

namespace quire::cpu::bf16_softmax {

using bf16_lanes::kLanes;
constexpr int kPairs = static_cast<int>(kTileKeys) / 2;  // of keys
constexpr int kMaxRows = 6;  // times four accumulators: most of the 32 registers
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// What rows that go through a tile together know between its keys and its values.
struct Strip {
  alignas(64) float weights[kMaxRows * kPairs];  // pairs of bf16
  alignas(32) float factors[8];                  // of the earlier output
};

/// 2^x for x <= 0, for weights that are rounded to bf16 next: within 2^-18. Below -126: 0.
QUIRE_BF16_DOT inline __m512 weight_exp2(__m512 x) {
  const __mmask16 is_normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(9.600395517e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.591689383e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402371846e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931219948e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(is_normal, p, n);
}

/// The same within 2 ulp, for factors that multiply each other from tile to tile.
QUIRE_BF16_DOT inline __m256 factor_exp2(__m256 x) {
  const __mmask8 is_normal = _mm256_cmp_ps_mask(x, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
  const __m256 n = _mm256_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 r = _mm256_sub_ps(x, n);
  __m256 p = _mm256_set1_ps(1.537070563e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.339984829e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(9.618373248e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.550329035e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(2.402264846e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(6.931472056e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  return _mm256_maskz_scalef_ps(is_normal, p, n);
}

struct Max {
  QUIRE_BF16_DOT __m512 operator()(__m512 a, __m512 b) const { return _mm512_max_ps(a, b); }
};
struct Sum {
  QUIRE_BF16_DOT __m512 operator()(__m512 a, __m512 b) const { return _mm512_add_ps(a, b); }
};

/// Lane r of the result: `op` over the lanes of rows[r], by the same tree for every row.
template <class Op>
QUIRE_BF16_DOT inline __m256 reduce_rows(const __m512 (&rows)[8], Op op) {
  __m512 quads[2];
  for (int i = 0; i < 2; ++i) {
    const __m512* four = rows + 4 * i;
    const __m512 even =
        op(_mm512_unpacklo_ps(four[0], four[1]), _mm512_unpackhi_ps(four[0], four[1]));
    const __m512 odd =
        op(_mm512_unpacklo_ps(four[2], four[3]), _mm512_unpackhi_ps(four[2], four[3]));
    const __m512d e = _mm512_castps_pd(even), o = _mm512_castps_pd(odd);
    quads[i] =
        op(_mm512_castpd_ps(_mm512_unpacklo_pd(e, o)), _mm512_castpd_ps(_mm512_unpackhi_pd(e, o)));
  }
  const __m512 halves = op(_mm512_shuffle_f32x4(quads[0], quads[1], 0x88),
                           _mm512_shuffle_f32x4(quads[0], quads[1], 0xDD));
  const __m512 result =
      op(_mm512_shuffle_f32x4(halves, halves, 0x88), _mm512_shuffle_f32x4(halves, halves, 0xDD));
  return _mm512_castps512_ps256(result);
}

/// Scales the scores and hides those behind each row's limit. Returns the rows' maxima.
template <int kRows, int kCount>
QUIRE_BF16_DOT inline __m256 mask_scores(const AttendTile& tile, int64_t first_row,
                                         __m512 (&scores)[kRows][kCount]) {
  const __m512 scale = _mm512_set1_ps(tile.softmax_scale * 1.44269504088896341f);
  const __m512 lowest = _mm512_set1_ps(kMinusInfinity);
  __m512 max[8];
  for (int r = 0; r < kRows; ++r) {
    const int32_t limit = tile.limits[first_row + r];
    const uint64_t visible = limit >= kTileKeys ? ~uint64_t{0} : (uint64_t{1} << limit) - 1;
    for (int v = 0; v < kCount; ++v) {
      const auto mask = static_cast<__mmask16>(visible >> (v * kLanes));
      if (tile.key_scales != nullptr) {
        const __m512 key_scale = _mm512_loadu_ps(tile.key_scales + v * kLanes);
        scores[r][v] = _mm512_mul_ps(scores[r][v], key_scale);
      }
      scores[r][v] = _mm512_mask_mul_ps(lowest, mask, scores[r][v], scale);
      max[r] = v == 0 ? scores[r][0] : _mm512_max_ps(max[r], scores[r][v]);
    }
  }
  for (int r = kRows; r < 8; ++r) max[r] = lowest;
  return reduce_rows(max, Max());
}

/// Weights of the strip's rows from their scores with the first kCount * 16 keys of the tile;
/// updates their maxima and sums. How many keys behind the limits have scores changes nothing.
template <int kRows, int kCount>
QUIRE_BF16_DOT inline void weigh_scores(const AttendTile& tile, int64_t first_row,
                                        __m512 (&scores)[kRows][kCount], Strip& strip) {
  const __m256 tile_max = mask_scores<kRows, kCount>(tile, first_row, scores);
  constexpr auto kMask = static_cast<__mmask8>((1u << kRows) - 1);
  const __m256 lowest = _mm256_set1_ps(kMinusInfinity);
  float* state_max = tile.state.max + first_row;
  float* state_sum = tile.state.sum + first_row;
  const __m256 old_max = tile.is_first ? lowest : _mm256_mask_loadu_ps(lowest, kMask, state_max);
  const __m256 new_max = _mm256_max_ps(old_max, tile_max);
  _mm256_mask_storeu_ps(state_max, kMask, new_max);
  // Nothing but -inf so far: the weights would be 2^(-inf + inf). They count as 0.
  const __m256 base =
      _mm256_maskz_mov_ps(_mm256_cmp_ps_mask(new_max, lowest, _CMP_NEQ_UQ), new_max);
  alignas(32) float bases[8];
  _mm256_store_ps(bases, base);
  const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3F80);
  __m512 sums[8];
  for (int r = 0; r < kRows; ++r) {
    sums[r] = _mm512_setzero_ps();
    const __m512 row_base = _mm512_set1_ps(bases[r]);
    for (int v = 0; v < kCount; v += 2) {
      const __m512 low = weight_exp2(_mm512_sub_ps(scores[r][v], row_base));
      __m512 high = _mm512_setzero_ps();
      if (v + 1 < kCount)
        high = weight_exp2(_mm512_sub_ps(scores[r][v + 1 < kCount ? v + 1 : v], row_base));
      const __m512bh pairs = _mm512_cvtne2ps_pbh(high, low);
      sums[r] = _mm512_dpbf16_ps(sums[r], pairs, ones);
      _mm512_store_ps(strip.weights + r * kPairs + v / 2 * kLanes, (__m512)pairs);
    }
  }
  for (int r = kRows; r < 8; ++r) sums[r] = _mm512_setzero_ps();
  const __m256 tile_sum = reduce_rows(sums, Sum());
  const __m256 factor = factor_exp2(_mm256_sub_ps(old_max, base));
  _mm256_store_ps(strip.factors, factor);
  const __m256 old_sum =
      tile.is_first ? _mm256_setzero_ps() : _mm256_maskz_loadu_ps(kMask, state_sum);
  _mm256_mask_storeu_ps(state_sum, kMask, _mm256_fmadd_ps(old_sum, factor, tile_sum));
}

}  // namespace quire::cpu::bf16_softmax

#endif
