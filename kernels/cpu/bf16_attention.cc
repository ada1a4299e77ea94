#include "kernels/cpu/bf16_attention.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/bf16_softmax.h"

namespace quire::cpu::bf16_attention {

int64_t packed_values_size(int64_t head_dim) { return padded_dim(head_dim) * kTileKeys / 2; }

#if defined(__x86_64__)

using namespace bf16_lanes;
using namespace bf16_softmax;

namespace {

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

template <int kRows, int kCount>
QUIRE_BF16_DOT inline void weigh(const AttendTile& tile, int64_t first_row, Strip& strip) {
  __m512 scores[kRows][kCount];
  score<kRows, kCount>(tile, first_row, scores);
  weigh_scores<kRows, kCount>(tile, first_row, scores, strip);
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
