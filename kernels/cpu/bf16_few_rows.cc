#include "kernels/cpu/bf16_few_rows.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/bf16_softmax.h"

namespace quire::cpu::bf16_few_rows {

namespace {
constexpr int64_t kDimsAtOnce = 32;  // bf16 of a register
}  // namespace

bool takes(int64_t num_rows, int64_t head_dim) {
  return num_rows <= kMaxFewRows && head_dim % kDimsAtOnce == 0;
}

#if defined(__x86_64__)

using namespace bf16_lanes;
using bf16_softmax::kPairs;
using bf16_softmax::Strip;

namespace {

/// To the second cache: lines on their way to the first one take up the few places where loads that
/// missed it wait, and hold up the loads of the present tile.
inline void prefetch(const void* address) {
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T1);
}

/// Keeps GCC from deriving 16 pointers from one ahead of a loop, and from moving them to and from
/// vector registers in it.
template <class T>
inline void forget_origin(T*& pointer) {
  asm("" : "+r"(pointer));
}

/// Keys at places of their own.
struct ScatteredKeys {
  const BFloat16* const* keys;
  const BFloat16* const* upcoming;
  int64_t offset;

  QUIRE_BF16_DOT void load(int64_t first, int64_t count, int64_t dim,
                           __m512i (&words)[kLanes]) const {
    const BFloat16* const* key = keys + first;
    const BFloat16* const* next = upcoming + first;
    dim += offset;
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      words[j] = _mm512_setzero_si512();
      if (j >= count) continue;
      words[j] = _mm512_loadu_si512(*key++ + dim);
      prefetch(*next++ + dim);
      forget_origin(key);
      forget_origin(next);
    }
  }
};

/// Keys at equal distances.
struct EvenKeys {
  const BFloat16* keys;
  const BFloat16* upcoming;
  int64_t stride;

  QUIRE_BF16_DOT void load(int64_t first, int64_t count, int64_t dim,
                           __m512i (&words)[kLanes]) const {
    const BFloat16* key = keys + first * stride + dim;
    const BFloat16* next = upcoming + first * stride + dim;
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
      words[j] = _mm512_setzero_si512();
      if (j >= count) continue;
      words[j] = _mm512_loadu_si512(key);
      prefetch(next);
      key += stride;
      next += stride;
      forget_origin(key);
      forget_origin(next);
    }
  }
};

/// sums += the products of two pairs of bf16 per lane, one of them the same pair for all lanes.
QUIRE_BF16_DOT inline void add_products(__m512& sums, const float& pair, __m512i words) {
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(words), "m"(pair));
}

/// Scores of kRows rows with keys [first, first + 16); those from num_keys on are zeros.
template <int kRows, class Keys>
QUIRE_BF16_DOT inline void score_keys(const float* query, int64_t num_pairs, const Keys& keys,
                                      int64_t first, int64_t num_keys, __m512 (&sums)[kRows]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
  for (int64_t p0 = 0; p0 < num_pairs; p0 += kLanes) {
    __m512i words[kLanes];
    if (first + kLanes <= num_keys) {
      keys.load(first, kLanes, 2 * p0, words);
    } else {
      keys.load(first, num_keys - first, 2 * p0, words);
    }
    transpose(words);
    const float* pairs = query + p0;
#pragma GCC unroll 16
    for (int p = 0; p < kLanes; ++p) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) add_products(sums[r], pairs[r * num_pairs + p], words[p]);
    }
  }
}

template <int kRows>
QUIRE_BF16_DOT void filter_keys(const FewRows& rows, float* scores, uint64_t* masks) {
  const ScatteredKeys keys{rows.keys, rows.upcoming, rows.offset};
  const int64_t num_pairs = bf16_dot::query_stride(rows.head_dim);
  std::fill_n(masks, kRows, uint64_t{0});
  for (int64_t first = 0; first < rows.num_keys; first += kLanes) {
    __m512 sums[kRows];
    score_keys<kRows>(rows.query, num_pairs, keys, first, rows.num_keys, sums);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m512 threshold = _mm512_set1_ps(rows.thresholds[r]);
      const __mmask16 above = _mm512_cmp_ps_mask(sums[r], threshold, _CMP_NLT_UQ);
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
        bf16_lanes::add_products(low[r][c], weight, value_low);
        bf16_lanes::add_products(high[r][c], weight, value_high);
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

void score_above(const FewRows& rows, float* scores, uint64_t* masks) {
  constexpr decltype(&filter_keys<1>) kFunctions[kMaxFewRows] = {filter_keys<1>, filter_keys<2>,
                                                                 filter_keys<3>, filter_keys<4>};
  kFunctions[rows.num_rows - 1](rows, scores, masks);
}

void attend(const AttendTile& tile, const TileRowsInPlace& rows) {
  constexpr decltype(&attend_rows<1>) kFunctions[kMaxFewRows] = {attend_rows<1>, attend_rows<2>,
                                                                 attend_rows<3>, attend_rows<4>};
  kFunctions[tile.num_rows - 1](tile, rows);
}

#else

void score_above(const FewRows&, float*, uint64_t*) { QUIRE_CHECK(false); }
void attend(const AttendTile&, const TileRowsInPlace&) { QUIRE_CHECK(false); }

#endif

}  // namespace quire::cpu::bf16_few_rows
