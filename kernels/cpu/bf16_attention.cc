#include "kernels/cpu/bf16_attention.h"

#include <algorithm>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu/bf16_dot.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own intrinsics start from a register that is undefined on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#define QUIRE_BF16_DOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#endif

namespace quire::cpu::bf16_attention {

int64_t packed_values_size(int64_t head_dim) { return padded_dim(head_dim) * kTileKeys / 2; }

#if defined(__x86_64__)

namespace {

constexpr int kLanes = 16;                                      // f32, or pairs of bf16
constexpr int kVectors = static_cast<int>(kTileKeys) / kLanes;  // scores of a row
constexpr int kPairs = static_cast<int>(kTileKeys) / 2;         // of keys
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

/// Scores of kRows rows with the first kCount * 16 keys of the tile.
template <int kRows, int kCount>
QUIRE_BF16_DOT inline void score(const AttendTile& tile, int64_t first_row,
                                 __m512 (&scores)[kRows][kCount]) {
  const int64_t num_pairs = bf16_dot::query_stride(tile.head_dim);
  const float* query = tile.query + first_row * num_pairs;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kCount; ++v) scores[r][v] = _mm512_setzero_ps();
  }
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    __m512bh key[kCount];
    for (int v = 0; v < kCount; ++v) {
      key[v] = (__m512bh)_mm512_loadu_ps(tile.keys + pair * kTileKeys + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512bh q = (__m512bh)_mm512_set1_ps(query[r * num_pairs + pair]);
      for (int v = 0; v < kCount; ++v) scores[r][v] = _mm512_dpbf16_ps(scores[r][v], q, key[v]);
    }
  }
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

/// Weights of the strip's rows; updates their maxima and sums.
template <int kRows, int kCount>
QUIRE_BF16_DOT inline void weigh(const AttendTile& tile, int64_t first_row, Strip& strip) {
  __m512 scores[kRows][kCount];
  score<kRows, kCount>(tile, first_row, scores);
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

/// out[r, :] = out[r, :] * factor + weighted values over the first num_pairs pairs of keys, in
/// kCount vectors of dimensions from `dim` on.
template <int kRows, int kCount>
QUIRE_BF16_DOT inline void accumulate(const AttendTile& tile, const Strip& strip, int first_weight,
                                      int64_t num_pairs, int64_t dim, float* out) {
  const int64_t stride = padded_dim(tile.head_dim);
  const float* weights = strip.weights + first_weight * kPairs;
  const float* values = tile.values + dim;
  __m512 acc[kRows][kCount];
  for (int r = 0; r < kRows; ++r) {
    const __m512 factor = _mm512_set1_ps(strip.factors[first_weight + r]);
    for (int v = 0; v < kCount; ++v) {
      acc[r][v] = tile.is_first
                      ? _mm512_setzero_ps()
                      : _mm512_mul_ps(_mm512_loadu_ps(out + r * stride + dim + v * kLanes), factor);
    }
  }
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    __m512bh value[kCount];
    for (int v = 0; v < kCount; ++v) {
      value[v] = (__m512bh)_mm512_loadu_ps(values + pair * stride + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512bh weight = (__m512bh)_mm512_set1_ps(weights[r * kPairs + pair]);
      for (int v = 0; v < kCount; ++v) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], weight, value[v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kCount; ++v) {
      _mm512_storeu_ps(out + r * stride + dim + v * kLanes, acc[r][v]);
    }
  }
}

template <int kRows>
QUIRE_BF16_DOT inline void accumulate_all(const AttendTile& tile, const Strip& strip,
                                          int first_weight, int64_t num_pairs, float* out) {
  const int64_t stride = padded_dim(tile.head_dim);
  int64_t dim = 0;
  for (; dim + 4 * kLanes <= stride; dim += 4 * kLanes) {
    accumulate<kRows, 4>(tile, strip, first_weight, num_pairs, dim, out);
  }
  if (dim + 2 * kLanes <= stride) {
    accumulate<kRows, 2>(tile, strip, first_weight, num_pairs, dim, out);
    dim += 2 * kLanes;
  }
  if (dim < stride) accumulate<kRows, 1>(tile, strip, first_weight, num_pairs, dim, out);
}

/// One row up to its own limit: a value behind it is not even multiplied by zero.
QUIRE_BF16_DOT void accumulate_exactly(const AttendTile& tile, const Strip& strip, int weight_row,
                                       int32_t limit, float* out) {
  accumulate_all<1>(tile, strip, weight_row, limit / 2, out);
  if (limit % 2 == 0) return;
  const int64_t stride = padded_dim(tile.head_dim), pair = limit / 2;
  const __m512bh weight = (__m512bh)_mm512_set1_ps(strip.weights[weight_row * kPairs + pair]);
  for (int64_t i = 0; i < stride; i += kLanes) {
    const __m512i both = _mm512_loadu_si512(tile.values + pair * stride + i);
    const __m512i first = _mm512_and_si512(both, _mm512_set1_epi32(0xFFFF));
    _mm512_storeu_ps(out + i, _mm512_dpbf16_ps(_mm512_loadu_ps(out + i), weight, (__m512bh)first));
  }
}

template <int kRows>
QUIRE_BF16_DOT void attend_strip(const AttendTile& tile, int64_t first_row, bool is_finite) {
  const auto [least, most] =
      std::minmax_element(tile.limits + first_row, tile.limits + first_row + kRows);
  if (*most == 0 && !tile.is_first) return;
  Strip strip;
  switch ((*most + kLanes - 1) / kLanes) {
    case kVectors:
      weigh<kRows, 4>(tile, first_row, strip);
      break;
    case 3:
      weigh<kRows, 3>(tile, first_row, strip);
      break;
    case 2:
      weigh<kRows, 2>(tile, first_row, strip);
      break;
    default:
      weigh<kRows, 1>(tile, first_row, strip);
      break;
  }
  const int64_t stride = padded_dim(tile.head_dim);
  float* out = tile.state.out + first_row * stride;
  if (*least >= tile.num_keys || is_finite) {
    return accumulate_all<kRows>(tile, strip, 0, (*most + 1) / 2, out);
  }
  for (int r = 0; r < kRows; ++r) {
    accumulate_exactly(tile, strip, r, tile.limits[first_row + r], out + r * stride);
  }
}

/// Whether zero times any value of the tile is zero.
QUIRE_BF16_DOT bool values_are_finite(const AttendTile& tile) {
  const __m512i exponent = _mm512_set1_epi16(0x7F80);
  const int64_t count = (tile.num_keys + 1) / 2 * padded_dim(tile.head_dim);
  __mmask32 infinite = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512i bits = _mm512_and_si512(_mm512_loadu_si512(tile.values + i), exponent);
    infinite |= _mm512_cmpeq_epi16_mask(bits, exponent);
  }
  return infinite == 0;
}

}  // namespace

QUIRE_BF16_DOT void pack_values(const BFloat16* const* values, int64_t num_keys, int64_t head_dim,
                                float* packed) {
  const int64_t stride = padded_dim(head_dim);
  const auto load = [&](int64_t key, int64_t i) QUIRE_BF16_DOT {
    if (key >= num_keys) return _mm256_setzero_si256();
    const int64_t count = std::min<int64_t>(head_dim - i, kLanes);
    return _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), values[key] + i);
  };
  for (int64_t pair = 0; pair < kPairs; ++pair) {
    for (int64_t i = 0; i < stride; i += kLanes) {
      const __m512i first = _mm512_cvtepu16_epi32(load(2 * pair, i));
      const __m512i second = _mm512_cvtepu16_epi32(load(2 * pair + 1, i));
      _mm512_storeu_si512(packed + pair * stride + i,
                          _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
    }
  }
}

void attend_tile(const AttendTile& tile) {
  const int32_t* limits_end = tile.limits + tile.num_rows;
  const bool has_limits =
      std::any_of(tile.limits, limits_end, [&](int32_t limit) { return limit < tile.num_keys; });
  const bool is_finite = has_limits && values_are_finite(tile);
  int64_t r = 0;
  for (; r + kMaxRows <= tile.num_rows; r += kMaxRows) attend_strip<kMaxRows>(tile, r, is_finite);
  if (r + 4 <= tile.num_rows) {
    attend_strip<4>(tile, r, is_finite);
    r += 4;
  }
  if (r + 2 <= tile.num_rows) {
    attend_strip<2>(tile, r, is_finite);
    r += 2;
  }
  if (r < tile.num_rows) attend_strip<1>(tile, r, is_finite);
}

#else

void pack_values(const BFloat16* const*, int64_t, int64_t, float*) { QUIRE_CHECK(false); }
void attend_tile(const AttendTile&) { QUIRE_CHECK(false); }

#endif

}  // namespace quire::cpu::bf16_attention
