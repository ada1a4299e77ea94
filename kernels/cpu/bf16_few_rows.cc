#include "kernels/cpu/bf16_few_rows.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/bf16_softmax.h"

namespace quire::cpu::bf16_few_rows {

namespace {
constexpr int64_t kMaxRows = 4;      // accumulators beside 16 transposed registers
constexpr int64_t kDimsAtOnce = 32;  // bf16 of a register
}  // namespace

bool takes(int64_t num_rows, int64_t head_dim) {
  return num_rows <= kMaxRows && head_dim % kDimsAtOnce == 0;
}

#if defined(__x86_64__)

using namespace bf16_lanes;
using bf16_softmax::kPairs;
using bf16_softmax::Strip;

namespace {

inline void prefetch(const void* address) {
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
}

/// Keys at places of their own.
struct ScatteredKeys {
  const BFloat16* const* keys;
  const BFloat16* const* upcoming;

  QUIRE_BF16_DOT __m512i load(int64_t key, int64_t dim) const {
    prefetch(upcoming[key] + dim);
    return _mm512_loadu_si512(keys[key] + dim);
  }
};

/// Keys at equal distances.
struct EvenKeys {
  const BFloat16* keys;
  const BFloat16* upcoming;
  int64_t stride;

  QUIRE_BF16_DOT __m512i load(int64_t key, int64_t dim) const {
    prefetch(upcoming + key * stride + dim);
    return _mm512_loadu_si512(keys + key * stride + dim);
  }
};

/// Scores of kRows rows with keys [first, first + 16); those from num_keys on are zeros.
template <int kRows, class Keys>
QUIRE_BF16_DOT inline void score_keys(const float* query, int64_t num_pairs, const Keys& keys,
                                      int64_t first, int64_t num_keys, __m512 (&sums)[kRows]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
  for (int64_t p0 = 0; p0 < num_pairs; p0 += kLanes) {
    __m512i words[kLanes];
    if (first + kLanes <= num_keys) {
      for (int j = 0; j < kLanes; ++j) words[j] = keys.load(first + j, 2 * p0);
    } else {
      for (int j = 0; j < kLanes; ++j) {
        words[j] = first + j < num_keys ? keys.load(first + j, 2 * p0) : _mm512_setzero_si512();
      }
    }
    transpose(words);
#pragma GCC unroll 16
    for (int p = 0; p < kLanes; ++p) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m512 q = _mm512_set1_ps(query[r * num_pairs + p0 + p]);
        add_products(sums[r], q, _mm512_castsi512_ps(words[p]));
      }
    }
  }
}

template <int kRows>
QUIRE_BF16_DOT void filter_keys(const float* query, int64_t num_pairs, const ScatteredKeys& keys,
                                int64_t num_keys, const float* thresholds, float* scores,
                                uint64_t* masks) {
  std::fill_n(masks, kRows, uint64_t{0});
  for (int64_t first = 0; first < num_keys; first += kLanes) {
    __m512 sums[kRows];
    score_keys<kRows>(query, num_pairs, keys, first, num_keys, sums);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __mmask16 above =
          _mm512_cmp_ps_mask(sums[r], _mm512_set1_ps(thresholds[r]), _CMP_NLT_UQ);
      if (above == 0) continue;
      masks[r] |= static_cast<uint64_t>(above) << first;
      _mm512_storeu_ps(scores + r * kTileKeys + first, sums[r]);
    }
  }
}

/// Two registers of interleaved dimensions, as _mm512_unpacklo_epi16 and _mm512_unpackhi_epi16
/// leave them, and the same 32 dimensions in order.
QUIRE_BF16_DOT inline void interleave(const float* in, __m512& low, __m512& high) {
  const __m512 first = _mm512_loadu_ps(in), second = _mm512_loadu_ps(in + kLanes);
  low = _mm512_shuffle_f32x4(first, second, 0x88);
  high = _mm512_shuffle_f32x4(first, second, 0xDD);
}
QUIRE_BF16_DOT inline void store_in_order(__m512 low, __m512 high, float* out) {
  const __m512i lower = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(8));
  _mm512_storeu_ps(out, _mm512_permutex2var_ps(low, lower, high));
  _mm512_storeu_ps(out + kLanes, _mm512_permutex2var_ps(low, upper, high));
}

/// out[r, :] = out[r, :] * factor + weighted values, in kCount times 32 dimensions from `dim` on.
template <int kRows, int kCount>
QUIRE_BF16_DOT inline void accumulate(const AttendTile& tile, const Strip& strip,
                                      const TileRowsInPlace& rows, int64_t dim) {
  const int64_t head_dim = tile.head_dim;
  __m512 low[kRows][kCount], high[kRows][kCount];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const __m512 factor = _mm512_set1_ps(strip.factors[r]);
#pragma GCC unroll 2
    for (int c = 0; c < kCount; ++c) {
      low[r][c] = high[r][c] = _mm512_setzero_ps();
      if (tile.is_first) continue;
      interleave(tile.state.out + r * head_dim + dim + c * kDimsAtOnce, low[r][c], high[r][c]);
      low[r][c] = _mm512_mul_ps(low[r][c], factor);
      high[r][c] = _mm512_mul_ps(high[r][c], factor);
    }
  }
  const int64_t pair_stride = 2 * rows.value_stride;
  const BFloat16* values = rows.values + dim;
  const BFloat16* upcoming = rows.upcoming_values + dim;
  const int64_t num_whole = tile.num_keys / 2, num_pairs = (tile.num_keys + 1) / 2;
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const BFloat16* even = values + pair * pair_stride;
#pragma GCC unroll 2
    for (int c = 0; c < kCount; ++c) {
      prefetch(upcoming + pair * pair_stride + c * kDimsAtOnce);
      prefetch(upcoming + pair * pair_stride + rows.value_stride + c * kDimsAtOnce);
      const __m512i first = _mm512_loadu_si512(even + c * kDimsAtOnce);
      const __m512i second = pair < num_whole
                                 ? _mm512_loadu_si512(even + rows.value_stride + c * kDimsAtOnce)
                                 : _mm512_setzero_si512();
      const __m512 value_low = _mm512_castsi512_ps(_mm512_unpacklo_epi16(first, second));
      const __m512 value_high = _mm512_castsi512_ps(_mm512_unpackhi_epi16(first, second));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m512 weight = _mm512_set1_ps(strip.weights[r * kPairs + pair]);
        add_products(low[r][c], weight, value_low);
        add_products(high[r][c], weight, value_high);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < kCount; ++c) {
      store_in_order(low[r][c], high[r][c], tile.state.out + r * head_dim + dim + c * kDimsAtOnce);
    }
  }
}

template <int kRows>
QUIRE_BF16_DOT void attend_rows(const AttendTile& tile, const TileRowsInPlace& rows) {
  const int64_t num_pairs = bf16_dot::query_stride(tile.head_dim);
  const EvenKeys keys{rows.keys, rows.upcoming_keys, rows.key_stride};
  __m512 scores[kRows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    __m512 sums[kRows];
    score_keys<kRows>(tile.query, num_pairs, keys, v * kLanes, tile.num_keys, sums);
    for (int r = 0; r < kRows; ++r) scores[r][v] = sums[r];
  }
  Strip strip;
  bf16_softmax::weigh_scores<kRows, kVectors>(tile, 0, scores, strip);
  int64_t dim = 0;
  for (; dim + 2 * kDimsAtOnce <= tile.head_dim; dim += 2 * kDimsAtOnce) {
    accumulate<kRows, 2>(tile, strip, rows, dim);
  }
  if (dim < tile.head_dim) accumulate<kRows, 1>(tile, strip, rows, dim);
}

}  // namespace

void score_above(const float* query, int64_t num_rows, int64_t head_dim,
                 const BFloat16* const* keys, const BFloat16* const* upcoming, int64_t num_keys,
                 const float* thresholds, float* scores, uint64_t* masks) {
  constexpr decltype(&filter_keys<1>) kFunctions[kMaxRows] = {filter_keys<1>, filter_keys<2>,
                                                              filter_keys<3>, filter_keys<4>};
  kFunctions[num_rows - 1](query, bf16_dot::query_stride(head_dim), {keys, upcoming}, num_keys,
                           thresholds, scores, masks);
}

void attend(const AttendTile& tile, const TileRowsInPlace& rows) {
  constexpr decltype(&attend_rows<1>) kFunctions[kMaxRows] = {attend_rows<1>, attend_rows<2>,
                                                              attend_rows<3>, attend_rows<4>};
  kFunctions[tile.num_rows - 1](tile, rows);
}

#else

void score_above(const float*, int64_t, int64_t, const BFloat16* const*, const BFloat16* const*,
                 int64_t, const float*, float*, uint64_t*) {
  QUIRE_CHECK(false);
}
void attend(const AttendTile&, const TileRowsInPlace&) { QUIRE_CHECK(false); }

#endif

}  // namespace quire::cpu::bf16_few_rows
