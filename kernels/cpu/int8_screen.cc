#include "kernels/cpu/int8_screen.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/check.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/simd_rows.h"
#include "kernels/cpu/x86_intrinsics.h"

#if defined(__x86_64__)
#define QUIRE_INT8_DOT __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#endif

namespace quire::cpu {
namespace {

// What the bound must cover beside the rests themselves:
// - the exact score's own rounding: each of at most 2 head_dim roundings is 2^-24 of |q| |c|;
// - flushed denormals: at most 2^-86 per dimension with |q|, |c| <= kLargest, which is below
//   kSmallestNorm * kTinyRest;
// - norms and rests are computed in f32: a relative 2^-24 for each addition.
// Each allowance is several times what it covers; all of them together stay far below the rests.
constexpr double kScoreRoundoff = 0x1p-21;  // per dimension, of |q| |c|
constexpr double kTinyRest = 0x1p-40;       // per dimension, of |q|
constexpr double kNormRoundoff = 1 + 0x1p-10;
constexpr double kRestRoundoff = 0x1p-20;  // of the norm
constexpr float kLargest = 0x1p40f;
constexpr double kSmallestNorm = 0x1p-40;
constexpr float kSmallestScale = 0x1p-60f;
constexpr double kLimitRange = 0x1p29;  // no sum of products comes near it

constexpr int64_t kLanes = 16;
constexpr int kVectors = static_cast<int>(kTileKeys / kLanes);
constexpr int kRowsAtOnce = 6;  // times kVectors accumulators: most of the 32 registers

// AMX's tile registers: sums of 16 rows and 16 keys each in the first four, then what is
// multiplied.
enum TileRegister { kSums, kQueries = kSums + kVectors, kEvenKeys, kOddKeys };

amx::TileShapes screen_shapes(int64_t num_rows) {
  constexpr int64_t kQuads = amx::kTileRowBytes / 4;
  amx::TileShapes shapes;
  for (int v = 0; v < kVectors; ++v) shapes.set(kSums + v, num_rows, amx::kTileRowBytes);
  shapes.set(kQueries, num_rows, amx::kTileRowBytes);
  for (const int tile : {kEvenKeys, kOddKeys}) shapes.set(tile, kQuads, amx::kTileRowBytes);
  return shapes;
}

bool is_wanted = true;

bool is_available() {
#if defined(__x86_64__)
  static const bool available =
      __builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  return available;
#else
  return false;
#endif
}

}  // namespace

bool has_int8_screen() { return is_wanted && is_available(); }

bool use_int8_screen(bool wanted) {
  is_wanted = wanted;
  return has_int8_screen();
}

ScreenedKeys::ScreenedKeys(int64_t num_keys, std::vector<float> offset)
    : offset_(std::move(offset)) {
  const int64_t num_tiles = (num_keys + kTileKeys - 1) / kTileKeys;
  tiles_.resize(static_cast<size_t>(num_tiles), Tile{1, 0, 0, false});
  bytes_.resize(static_cast<size_t>(num_tiles * padded_dim(head_dim()) * kTileKeys) /
                sizeof(CacheLine));
}

uint8_t* ScreenedKeys::bytes(int64_t tile) {
  return reinterpret_cast<uint8_t*>(bytes_.data()) + tile * padded_dim(head_dim()) * kTileKeys;
}

const uint8_t* ScreenedKeys::bytes(int64_t tile) const {
  return reinterpret_cast<const uint8_t*>(bytes_.data()) +
         tile * padded_dim(head_dim()) * kTileKeys;
}

void ScreenedQueries::reset(int64_t num_rows, int64_t head_dim) {
  stride_ = padded_dim(head_dim);
  const auto count = static_cast<size_t>(num_rows);
  bytes_.resize(count * static_cast<size_t>(stride_));
  for (std::vector<double>* column : {&base_, &inverse_scale_, &norm_, &rest_, &shift_}) {
    column->resize(count);
  }
}

#if defined(__x86_64__)

namespace {

/// Dimensions [i, i + 16) that exist.
inline __mmask16 lanes_from(int64_t i, int64_t head_dim) {
  const int64_t count = std::min(head_dim - i, kLanes);
  return static_cast<__mmask16>((uint32_t{1} << count) - 1);
}

QUIRE_INT8_DOT inline __m512 load_bf16(const BFloat16* in, __mmask16 lanes) {
  const __m256i bits = _mm256_maskz_loadu_epi16(lanes, in);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/// Sums over what has been cut into integers, per lane.
struct CutSums {
  __m512 norm2, rest2;
};

/// x / scale, rounded to integers.
QUIRE_INT8_DOT inline __m512i cut(__m512 x, __m512 scale, __m512 inverse_scale, CutSums& sums) {
  const __m512i integers = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse_scale));
  const __m512 kept = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), scale);
  const __m512 rest = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(integers), scale, x);
  sums.norm2 = _mm512_fmadd_ps(kept, kept, sums.norm2);
  sums.rest2 = _mm512_fmadd_ps(rest, rest, sums.rest2);
  return integers;
}

/// sums += the products of four u8 and four s8 per lane. Not the intrinsic: around it, GCC 12 moves
/// most of the accumulators to the stack and back, which costs half of the speed.
QUIRE_INT8_DOT inline void add_products(__m512i& sums, __m512i u8, __m512i s8) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(u8), "v"(s8));
}

/// Bit j: the sum of key j is negative.
QUIRE_INT8_DOT inline uint64_t negative_keys(const __m512i (&sums)[kVectors]) {
  uint64_t negative = 0;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    negative |= static_cast<uint64_t>(_mm512_movepi32_mask(sums[v])) << (v * kLanes);
  }
  return negative;
}

/// kRows rows against all keys of a tile. The sums start at -limit: their sign is the answer.
/// Returns the rows that have a bit in their mask.
template <int kRows>
QUIRE_INT8_DOT inline uint64_t screen_rows(const int8_t* queries, int64_t stride, int64_t num_quads,
                                           const uint8_t* keys, const int32_t* limits,
                                           uint64_t* masks) {
  __m512i sums[kRows][kVectors];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_set1_epi32(-limits[r]);
  }
  for (int64_t quad = 0; quad < num_quads; ++quad) {
    __m512i key[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      key[v] = _mm512_load_si512(keys + (quad * kTileKeys + v * kLanes) * 4);
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      int32_t four;
      std::memcpy(&four, queries + r * stride + quad * 4, sizeof(four));
      const __m512i query = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        add_products(sums[r][v], key[v], query);
      }
    }
  }
  uint64_t named = 0;
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    masks[r] = ~negative_keys(sums[r]);
    named |= static_cast<uint64_t>(masks[r] != 0) << r;
  }
  return named;
}

/// What screen_rows does, for up to 16 rows and by AMX's tiles, which have screen_shapes(num_rows).
/// REQUIRES: a stride that is a multiple of kTileRowBytes.
QUIRE_INT8_DOT inline uint64_t screen_rows_by_tiles(const int8_t* queries, int64_t stride,
                                                    int64_t num_rows, const uint8_t* keys,
                                                    const int32_t* limits, uint64_t* masks) {
  alignas(64) int32_t sums[kVectors][kLanes][kLanes];
  for (int64_t r = 0; r < num_rows; ++r) {
    _mm512_store_si512(sums[0][r], _mm512_set1_epi32(-limits[r]));
  }
  constexpr int64_t kStride = kLanes * sizeof(int32_t), kKeysStride = kTileKeys * 4;
  amx::load<kSums>(sums[0], kStride);
  amx::load<kSums + 1>(sums[0], kStride);
  amx::load<kSums + 2>(sums[0], kStride);
  amx::load<kSums + 3>(sums[0], kStride);
  for (int64_t i = 0; i < stride; i += amx::kTileRowBytes) {
    const uint8_t* key = keys + i * kTileKeys;
    amx::load<kQueries>(queries + i, stride);
    amx::load<kEvenKeys>(key, kKeysStride);
    amx::add_s8_u8<kSums, kQueries, kEvenKeys>();
    amx::load<kOddKeys>(key + kStride, kKeysStride);
    amx::add_s8_u8<kSums + 1, kQueries, kOddKeys>();
    amx::load<kEvenKeys>(key + 2 * kStride, kKeysStride);
    amx::add_s8_u8<kSums + 2, kQueries, kEvenKeys>();
    amx::load<kOddKeys>(key + 3 * kStride, kKeysStride);
    amx::add_s8_u8<kSums + 3, kQueries, kOddKeys>();
  }
  amx::store<kSums>(sums[0], kStride);
  amx::store<kSums + 1>(sums[1], kStride);
  amx::store<kSums + 2>(sums[2], kStride);
  amx::store<kSums + 3>(sums[3], kStride);
  uint64_t named = 0;
  for (int64_t r = 0; r < num_rows; ++r) {
    __m512i sum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm512_load_si512(sums[v][r]);
    const __m512i all =
        _mm512_and_si512(_mm512_and_si512(sum[0], sum[1]), _mm512_and_si512(sum[2], sum[3]));
    masks[r] = 0;
    if (_mm512_movepi32_mask(all) == 0xFFFF) continue;  // most often all are below
    masks[r] = ~negative_keys(sum);
    named |= uint64_t{1} << r;
  }
  return named;
}

}  // namespace

QUIRE_INT8_DOT void ScreenedKeys::pack(int64_t tile, const BFloat16* const* keys,
                                       int64_t num_keys) {
  Tile& t = tiles_[static_cast<size_t>(tile)];
  const int64_t dim = head_dim();
  __m512 largest = _mm512_setzero_ps();
  __mmask16 too_large = 0;
  for (int64_t j = 0; j < num_keys; ++j) {
    for (int64_t i = 0; i < dim; i += kLanes) {
      const __mmask16 lanes = lanes_from(i, dim);
      const __m512 key = load_bf16(keys[j] + i, lanes);
      too_large |= _mm512_cmp_ps_mask(_mm512_abs_ps(key), _mm512_set1_ps(kLargest), _CMP_NLE_UQ);
      const __m512 x = _mm512_sub_ps(key, _mm512_maskz_loadu_ps(lanes, offset_.data() + i));
      largest = _mm512_max_ps(largest, _mm512_abs_ps(x));
    }
  }
  t.is_usable = too_large == 0;
  if (!t.is_usable) return;
  const float scale = std::max(_mm512_reduce_max_ps(largest) / 127.0f, kSmallestScale);
  const __m512 scales = _mm512_set1_ps(scale), inverses = _mm512_set1_ps(1.0f / scale);
  auto* out = reinterpret_cast<uint32_t*>(bytes(tile));
  float norm2 = 0, rest2 = 0, offset2 = 0;
  for (int64_t j = 0; j < num_keys; ++j) {
    CutSums sums{_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t i = 0; i < dim; i += kLanes) {
      const __mmask16 lanes = lanes_from(i, dim);
      const __m512 x = _mm512_sub_ps(load_bf16(keys[j] + i, lanes),
                                     _mm512_maskz_loadu_ps(lanes, offset_.data() + i));
      const __m512i integers = cut(x, scales, inverses, sums);
      alignas(16) uint32_t quads[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(quads),
                      _mm512_cvtepi32_epi8(_mm512_add_epi32(integers, _mm512_set1_epi32(128))));
      for (int64_t k = 0; k < 4; ++k) out[(i / 4 + k) * kTileKeys + j] = quads[k];
    }
    norm2 = std::max(norm2, _mm512_reduce_add_ps(sums.norm2));
    rest2 = std::max(rest2, _mm512_reduce_add_ps(sums.rest2));
  }
  for (const float x : offset_) offset2 += x * x;
  const double norm = std::sqrt(norm2) * kNormRoundoff, measured = std::sqrt(rest2) * kNormRoundoff;
  const double key_norm = norm + measured + std::sqrt(offset2) * kNormRoundoff;
  const double rest = measured + kRestRoundoff * norm +
                      static_cast<double>(dim) * (kScoreRoundoff * key_norm + kTinyRest);
  t.inverse_scale = 1.0 / scale;
  t.norm = norm / scale + 1;
  t.rest = rest / scale;
}

QUIRE_INT8_DOT void ScreenedQueries::pack(int64_t row, const BFloat16* query,
                                          const ScreenedKeys& keys) {
  const int64_t dim = keys.head_dim();
  __m512 largest = _mm512_setzero_ps(), norm2 = _mm512_setzero_ps();
  __m512d base = _mm512_setzero_pd();
  __mmask16 too_large = 0;
  for (int64_t i = 0; i < dim; i += kLanes) {
    const __mmask16 lanes = lanes_from(i, dim);
    const __m512 q = load_bf16(query + i, lanes);
    const __m512 o = _mm512_maskz_loadu_ps(lanes, keys.offset_.data() + i);
    too_large |= _mm512_cmp_ps_mask(_mm512_abs_ps(q), _mm512_set1_ps(kLargest), _CMP_NLE_UQ);
    largest = _mm512_max_ps(largest, _mm512_abs_ps(q));
    norm2 = _mm512_fmadd_ps(q, q, norm2);
    base = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(q)),
                           _mm512_cvtps_pd(_mm512_castps512_ps256(o)), base);
    base = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(q, 1)),
                           _mm512_cvtps_pd(_mm512_extractf32x8_ps(o, 1)), base);
  }
  const auto r = static_cast<size_t>(row);
  int8_t* out = bytes_.data() + row * stride_;
  if (too_large != 0) {  // everything is above this row's limits
    std::memset(out, 0, static_cast<size_t>(stride_));
    base_[r] = norm_[r] = shift_[r] = 0;
    inverse_scale_[r] = 1;
    rest_[r] = std::numeric_limits<double>::infinity();
    return;
  }
  const float scale = std::max(_mm512_reduce_max_ps(largest) / 127.0f, kSmallestScale);
  const __m512 scales = _mm512_set1_ps(scale), inverses = _mm512_set1_ps(1.0f / scale);
  CutSums sums{_mm512_setzero_ps(), _mm512_setzero_ps()};
  __m512i total = _mm512_setzero_si512();
  for (int64_t i = 0; i < dim; i += kLanes) {
    const __m512i integers = cut(load_bf16(query + i, lanes_from(i, dim)), scales, inverses, sums);
    total = _mm512_add_epi32(total, integers);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(integers));
  }
  const double norm =
      std::max(std::sqrt(_mm512_reduce_add_ps(norm2)) * kNormRoundoff, kSmallestNorm);
  base_[r] = _mm512_reduce_add_pd(base);
  inverse_scale_[r] = 1.0 / scale;
  norm_[r] = norm / scale;
  rest_[r] =
      (std::sqrt(_mm512_reduce_add_ps(sums.rest2)) * kNormRoundoff + kRestRoundoff * norm) / scale;
  shift_[r] = 128.0 * _mm512_reduce_add_epi32(total);
}

QUIRE_INT8_DOT void ScreenedQueries::limits(int64_t first_row, const ScreenedKeys& keys,
                                            int64_t tile, std::span<const float> thresholds,
                                            int32_t* out) const {
  const ScreenedKeys::Tile& t = keys.tiles_[static_cast<size_t>(tile)];
  const __m512d tile_scale = _mm512_set1_pd(t.inverse_scale), tile_norm = _mm512_set1_pd(t.norm),
                tile_rest = _mm512_set1_pd(t.rest);
  for (size_t i = 0; i < thresholds.size(); i += 8) {
    const size_t r = static_cast<size_t>(first_row) + i;
    const auto lanes =
        static_cast<__mmask8>((1u << std::min<size_t>(thresholds.size() - i, 8)) - 1);
    const auto column = [&](const std::vector<double>& values) QUIRE_INT8_DOT {
      return _mm512_maskz_loadu_pd(lanes, values.data() + r);
    };
    const __m512d threshold = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(lanes, thresholds.data() + i));
    __m512d limit = _mm512_mul_pd(_mm512_sub_pd(threshold, column(base_)),
                                  _mm512_mul_pd(column(inverse_scale_), tile_scale));
    limit = _mm512_fnmadd_pd(column(rest_), tile_norm, limit);
    limit = _mm512_fnmadd_pd(column(norm_), tile_rest, limit);
    // One for the conversion, one for what was rounded on the way here.
    limit = _mm512_sub_pd(limit, _mm512_set1_pd(2));
    limit = _mm512_min_pd(_mm512_max_pd(limit, _mm512_set1_pd(-kLimitRange)),
                          _mm512_set1_pd(kLimitRange));
    limit = _mm512_add_pd(limit, column(shift_));
    _mm256_mask_storeu_epi32(out + i, lanes, _mm512_cvttpd_epi32(limit));
  }
}

QUIRE_INT8_DOT uint64_t ScreenedQueries::screen(int64_t first_row, const ScreenedKeys& keys,
                                                int64_t tile, std::span<const float> thresholds,
                                                uint64_t* masks) const {
  const auto num_rows = static_cast<int64_t>(thresholds.size());
  const int64_t num_quads = (keys.head_dim() + 3) / 4;
  int32_t limit[kMaxRows];
  limits(first_row, keys, tile, thresholds, limit);
  const int8_t* queries = bytes_.data() + first_row * stride_;
  const uint8_t* packed = keys.bytes(tile);
  uint64_t named = 0;
  int64_t r = 0;
  if (stride_ % amx::kTileRowBytes == 0 && amx::is_available()) {
    for (; r < num_rows; r += amx::kTileRows) {
      const int64_t count = std::min(num_rows - r, amx::kTileRows);
      if (r == 0 || count < amx::kTileRows) amx::configure(screen_shapes(count));
      named |=
          screen_rows_by_tiles(queries + r * stride_, stride_, count, packed, limit + r, masks + r)
          << r;
    }
    amx::release();
    return named;
  }
  for (; r + kRowsAtOnce <= num_rows; r += kRowsAtOnce) {
    named |= screen_rows<kRowsAtOnce>(queries + r * stride_, stride_, num_quads, packed, limit + r,
                                      masks + r)
             << r;
  }
  for (; r < num_rows; ++r) {
    named |= screen_rows<1>(queries + r * stride_, stride_, num_quads, packed, limit + r, masks + r)
             << r;
  }
  return named;
}

#else

void ScreenedKeys::pack(int64_t, const BFloat16* const*, int64_t) { QUIRE_CHECK(false); }
void ScreenedQueries::pack(int64_t, const BFloat16*, const ScreenedKeys&) { QUIRE_CHECK(false); }
uint64_t ScreenedQueries::screen(int64_t, const ScreenedKeys&, int64_t, std::span<const float>,
                                 uint64_t*) const {
  QUIRE_CHECK(false);
  return 0;
}

#endif

}  // namespace quire::cpu
