#include "kernels/cpu/bf16_dot.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/bf16_lanes.h"
#include "kernels/cpu/simd_rows.h"

namespace quire::cpu::bf16_dot {

int64_t query_stride(int64_t head_dim) { return (head_dim + 1) / 2; }

void pack_query(const BFloat16* query, int64_t head_dim, float* packed) {
  if (head_dim % 2 != 0) packed[head_dim / 2] = 0;
  std::memcpy(packed, query, static_cast<size_t>(head_dim) * sizeof(BFloat16));
}

#if defined(__x86_64__)

using namespace bf16_lanes;

namespace {

constexpr int kRowsAtOnce = 6;  // times kVectors accumulators: most of the 32 registers

/// kRows rows against all keys of the tile.
template <int kRows>
QUIRE_BF16_DOT inline void dot_rows(const float* query, int64_t num_pairs, const float* keys,
                                    __m512 (&sums)[kRows][kVectors]) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    __m512 key[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      key[v] = _mm512_loadu_ps(keys + pair * kTileKeys + v * kLanes);
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m512 q = _mm512_set1_ps(query[r * num_pairs + pair]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) add_products(sums[r][v], q, key[v]);
    }
  }
}

template <int kRows>
QUIRE_BF16_DOT inline void score_rows(const float* query, int64_t num_pairs, const float* keys,
                                      float* scores) {
  __m512 sums[kRows][kVectors];
  dot_rows<kRows>(query, num_pairs, keys, sums);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_ps(scores + r * kTileKeys + v * kLanes, sums[r][v]);
    }
  }
}

template <int kRows>
QUIRE_BF16_DOT inline void filter_rows(const float* query, int64_t num_pairs, const float* keys,
                                       const float* thresholds, float* scores, uint64_t* masks) {
  __m512 sums[kRows][kVectors];
  dot_rows<kRows>(query, num_pairs, keys, sums);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const __m512 threshold = _mm512_set1_ps(thresholds[r]);
    uint64_t mask = 0;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 part = _mm512_cmp_ps_mask(sums[r][v], threshold, _CMP_NLT_UQ);
      mask |= static_cast<uint64_t>(part) << (v * kLanes);
    }
    masks[r] = mask;
    if (mask == 0) continue;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      _mm512_storeu_ps(scores + r * kTileKeys + v * kLanes, sums[r][v]);
    }
  }
}

}  // namespace

bool is_available() { return __builtin_cpu_supports("avx512bf16") != 0; }

QUIRE_BF16_DOT void pack_keys(const BFloat16* const* keys, int64_t num_keys, int64_t head_dim,
                              float* packed) {
  const int64_t num_pairs = query_stride(head_dim);
  for (int64_t j0 = 0; j0 < kTileKeys; j0 += kLanes) {
    for (int64_t p0 = 0; p0 < num_pairs; p0 += kLanes) {
      // Dimensions that exist; an odd head_dim's last pair has one half.
      const int64_t num_dims = std::min<int64_t>(head_dim - 2 * p0, 2 * kLanes);
      const auto dims = static_cast<__mmask32>((uint64_t{1} << num_dims) - 1);
      __m512i rows[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        rows[j] = j0 + j < num_keys ? _mm512_maskz_loadu_epi16(dims, keys[j0 + j] + 2 * p0)
                                    : _mm512_setzero_si512();
      }
      transpose(rows);
      const int64_t count = std::min<int64_t>(num_pairs - p0, kLanes);
      for (int64_t p = 0; p < count; ++p) {
        _mm512_storeu_si512(packed + (p0 + p) * kTileKeys + j0, rows[p]);
      }
    }
  }
}

QUIRE_BF16_DOT void score_tile(const float* query, int64_t num_rows, int64_t head_dim,
                               const float* keys, float* scores) {
  const int64_t num_pairs = query_stride(head_dim);
  int64_t r = 0;
  for (; r + kRowsAtOnce <= num_rows; r += kRowsAtOnce) {
    score_rows<kRowsAtOnce>(query + r * num_pairs, num_pairs, keys, scores + r * kTileKeys);
  }
  for (; r + 2 <= num_rows; r += 2) {
    score_rows<2>(query + r * num_pairs, num_pairs, keys, scores + r * kTileKeys);
  }
  if (r < num_rows) {
    score_rows<1>(query + r * num_pairs, num_pairs, keys, scores + r * kTileKeys);
  }
}

QUIRE_BF16_DOT void score_above(const float* query, int64_t num_rows, int64_t head_dim,
                                const float* keys, const float* thresholds, float* scores,
                                uint64_t* masks) {
  const int64_t num_pairs = query_stride(head_dim);
  int64_t r = 0;
  for (; r + kRowsAtOnce <= num_rows; r += kRowsAtOnce) {
    filter_rows<kRowsAtOnce>(query + r * num_pairs, num_pairs, keys, thresholds + r,
                             scores + r * kTileKeys, masks + r);
  }
  for (; r < num_rows; ++r) {
    filter_rows<1>(query + r * num_pairs, num_pairs, keys, thresholds + r, scores + r * kTileKeys,
                   masks + r);
  }
}

QUIRE_BF16_DOT void score_pairs(const float* const* queries, const BFloat16* const* keys,
                                int64_t num_pairs, int64_t head_dim, float* scores) {
  const int64_t num_steps = query_stride(head_dim);
  __m512 sums = _mm512_setzero_ps();
  for (int64_t p0 = 0; p0 < num_steps; p0 += kLanes) {
    const int64_t num_dims = std::min<int64_t>(head_dim - 2 * p0, 2 * kLanes);
    const auto dims = static_cast<__mmask32>((uint64_t{1} << num_dims) - 1);
    __m512i query[kLanes], key[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const bool exists = i < num_pairs;
      query[i] = exists ? _mm512_maskz_loadu_epi16(dims, queries[i] + p0) : _mm512_setzero_si512();
      key[i] = exists ? _mm512_maskz_loadu_epi16(dims, keys[i] + 2 * p0) : _mm512_setzero_si512();
    }
    transpose(query);
    transpose(key);
    const int64_t count = std::min<int64_t>(num_steps - p0, kLanes);
    for (int64_t p = 0; p < count; ++p) {
      sums = _mm512_dpbf16_ps(sums, (__m512bh)query[p], (__m512bh)key[p]);
    }
  }
  _mm512_mask_storeu_ps(scores, static_cast<__mmask16>((uint32_t{1} << num_pairs) - 1), sums);
}

#else

bool is_available() { return false; }
void pack_keys(const BFloat16* const*, int64_t, int64_t, float*) { QUIRE_CHECK(false); }
void score_tile(const float*, int64_t, int64_t, const float*, float*) { QUIRE_CHECK(false); }
void score_above(const float*, int64_t, int64_t, const float*, const float*, float*, uint64_t*) {
  QUIRE_CHECK(false);
}
void score_pairs(const float* const*, const BFloat16* const*, int64_t, int64_t, float*) {
  QUIRE_CHECK(false);
}

#endif

}  // namespace quire::cpu::bf16_dot
