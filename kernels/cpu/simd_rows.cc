#include "kernels/cpu/simd_rows.h"

#include <cmath>
#include <cstring>
#include <string>

#include "kernels/cpu/bf16_dot.h"
#include "kernels/cpu/bf16_few_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd_rows.cc"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include "kernels/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// bf16 bits widened to float: exact.
HWY_INLINE Vector LoadBFloat16(Floats d, const BFloat16* in) {
  const hn::Rebind<uint16_t, Floats> d16;
  const hn::RebindToUnsigned<Floats> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(in)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}

void ToFloat(const BFloat16* in, int64_t count, float* out) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(LoadBFloat16(d, in + i), d, out + i);
  for (; i < count; ++i) out[i] = quire::to_float(in[i]);
}

void ToBFloat16(const float* in, int64_t count, BFloat16* out) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> d32;
  const hn::Rebind<uint16_t, Floats> d16;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Vector x = hn::LoadU(d, in + i);
    const auto bits = hn::BitCast(d32, x);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7FFFu)));
    const auto quiet = hn::Or(bits, hn::Set(d32, 0x00400000u));
    const auto is_nan = hn::RebindMask(d32, hn::Ne(x, x));
    const auto upper = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<Floats>(), upper)), d16,
               reinterpret_cast<uint16_t*>(out + i));
  }
  for (; i < count; ++i) out[i] = quire::to_bfloat16(in[i]);
}

/// packed: [head_dim, kTileKeys], f32.
void PackKeys(const BFloat16* const* keys, int64_t num_keys, int64_t head_dim, float* packed) {
  if (num_keys < kTileKeys) {
    std::memset(packed, 0, static_cast<size_t>(head_dim * kTileKeys) * sizeof(float));
  }
  // Eight dimensions at a time: the eight rows written stay in the first cache level.
  for (int64_t d0 = 0; d0 < head_dim; d0 += 8) {
    const int64_t d1 = d0 + 8 < head_dim ? d0 + 8 : head_dim;
    for (int64_t j = 0; j < num_keys; ++j) {
      for (int64_t d = d0; d < d1; ++d) {
        packed[d * kTileKeys + j] = quire::to_float(keys[j][d]);
      }
    }
  }
}

/// kRows rows of scores. Per element: one chain of fused multiply-adds over head_dim.
template <int kRows>
HWY_INLINE void ScoreRows(const float* query, int64_t head_dim, const float* keys, float* scores) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t query_stride = padded_dim(head_dim);
  constexpr int kVectors = 4;
  for (int64_t j = 0; j < kTileKeys; j += kVectors * lanes) {
    Vector acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::Zero(d);
    }
    for (int64_t i = 0; i < head_dim; ++i) {
      Vector key[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        key[v] = hn::LoadU(d, keys + i * kTileKeys + j + v * lanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const Vector q = hn::Set(d, query[r * query_stride + i]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(q, key[v], acc[r][v]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        hn::StoreU(acc[r][v], d, scores + r * kTileKeys + j + v * lanes);
      }
    }
  }
}

void ScoreTile(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
               float* scores) {
  const int64_t stride = padded_dim(head_dim);
  int64_t r = 0;
  for (; r + 4 <= num_rows; r += 4) {
    ScoreRows<4>(query + r * stride, head_dim, keys, scores + r * kTileKeys);
  }
  for (; r < num_rows; ++r) {
    ScoreRows<1>(query + r * stride, head_dim, keys, scores + r * kTileKeys);
  }
}

void ScoreAbove(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                const float* thresholds, float* scores, uint64_t* masks) {
  ScoreTile(query, num_rows, head_dim, keys, scores);
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < num_rows; ++r) {
    const Vector threshold = hn::Set(d, thresholds[r]);
    masks[r] = 0;
    for (int64_t j = 0; j < kTileKeys; j += lanes) {
      uint8_t bits[8] = {};
      const Vector score = hn::LoadU(d, scores + r * kTileKeys + j);
      hn::StoreMaskBits(d, hn::Not(hn::Lt(score, threshold)), bits);
      masks[r] |= static_cast<uint64_t>(bits[0] | bits[1] << 8) << j;
    }
  }
}

/// ScoreRows' chain in one lane each; eight chains hide the latency of each other.
void ScorePairs(const float* const* queries, const BFloat16* const* keys, int64_t num_pairs,
                int64_t head_dim, float* scores) {
  const hn::CappedTag<float, 1> d;
  constexpr int64_t kChains = 8;
  for (int64_t first = 0; first < num_pairs; first += kChains) {
    const float* query[kChains];
    const BFloat16* key[kChains];
    hn::Vec<decltype(d)> acc[kChains];
    for (int64_t c = 0; c < kChains; ++c) {
      const int64_t pair = first + c < num_pairs ? first + c : first;
      query[c] = queries[pair];
      key[c] = keys[pair];
      acc[c] = hn::Zero(d);
    }
    for (int64_t i = 0; i < head_dim; ++i) {
      for (int64_t c = 0; c < kChains; ++c) {
        acc[c] =
            hn::MulAdd(hn::Set(d, query[c][i]), hn::Set(d, quire::to_float(key[c][i])), acc[c]);
      }
    }
    for (int64_t c = 0; c < kChains && first + c < num_pairs; ++c) {
      scores[first + c] = hn::GetLane(acc[c]);
    }
  }
}

void NormOneRow(const NormRow& row) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector squares = hn::Zero(d);
  float rest = 0;
  int64_t i = 0;
  for (; i + lanes <= row.width; i += lanes) {
    Vector x = hn::LoadU(d, row.x + i);
    if (row.delta != nullptr) {
      x = hn::Add(x, hn::LoadU(d, row.delta + i));
      hn::StoreU(x, d, row.x + i);
    }
    squares = hn::MulAdd(x, x, squares);
  }
  for (; i < row.width; ++i) {
    if (row.delta != nullptr) row.x[i] += row.delta[i];
    rest += row.x[i] * row.x[i];
  }
  const float sum = hn::GetLane(hn::SumOfLanes(d, squares)) + rest;
  const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(row.width) + row.epsilon);
  const Vector factor = hn::Set(d, inverse);
  for (i = 0; i + lanes <= row.width; i += lanes) {
    const Vector normed = hn::Mul(hn::LoadU(d, row.x + i), factor);
    hn::StoreU(hn::Mul(normed, hn::LoadU(d, row.weight + i)), d, row.out + i);
  }
  for (; i < row.width; ++i) row.out[i] = row.x[i] * inverse * row.weight[i];
}

void SiluMulOneRow(const float* gate, const float* up, int64_t width, float* out) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vector one = hn::Set(d, 1.0f);
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const Vector x = hn::LoadU(d, gate + i);
    // silu(x) = x * s / (1 + s') with s = e^-|x|: the exponent never overflows.
    const Vector e = ExpNonPositive(d, hn::Neg(hn::Abs(x)));
    const Vector numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
    const Vector sigmoid = hn::Div(numerator, hn::Add(one, e));
    hn::StoreU(hn::Mul(hn::Mul(x, sigmoid), hn::LoadU(d, up + i)), d, out + i);
  }
  for (; i < width; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

namespace {
bool has_bf16_dot = bf16_dot::is_available();
}  // namespace

HWY_EXPORT(ToFloat);
HWY_EXPORT(ToBFloat16);
HWY_EXPORT(PackKeys);
HWY_EXPORT(ScoreTile);
HWY_EXPORT(ScoreAbove);
HWY_EXPORT(ScorePairs);
HWY_EXPORT(NormOneRow);
HWY_EXPORT(SiluMulOneRow);
HWY_EXPORT(TargetName);

void to_float(const BFloat16* in, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(ToFloat)(in, count, out);
}
void to_bfloat16(const float* in, int64_t count, BFloat16* out) {
  HWY_DYNAMIC_DISPATCH(ToBFloat16)(in, count, out);
}
bool use_bf16_dot(bool wanted) {
  has_bf16_dot = wanted && bf16_dot::is_available();
  return has_bf16_dot;
}
bool uses_bf16_dot() { return has_bf16_dot; }
int64_t query_stride(int64_t head_dim) {
  return has_bf16_dot ? bf16_dot::query_stride(head_dim) : padded_dim(head_dim);
}
int64_t packed_keys_size(int64_t head_dim) { return padded_dim(head_dim) * kTileKeys; }
void pack_query(const BFloat16* query, int64_t head_dim, float* packed) {
  if (has_bf16_dot) return bf16_dot::pack_query(query, head_dim, packed);
  to_float(query, head_dim, packed);
}
void pack_keys(const BFloat16* const* keys, int64_t num_keys, int64_t head_dim, float* packed) {
  if (has_bf16_dot) return bf16_dot::pack_keys(keys, num_keys, head_dim, packed);
  HWY_DYNAMIC_DISPATCH(PackKeys)(keys, num_keys, head_dim, packed);
}
void score_tile(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                float* scores) {
  if (has_bf16_dot) return bf16_dot::score_tile(query, num_rows, head_dim, keys, scores);
  HWY_DYNAMIC_DISPATCH(ScoreTile)(query, num_rows, head_dim, keys, scores);
}
void score_above(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                 const float* thresholds, float* scores, uint64_t* masks) {
  if (has_bf16_dot) {
    return bf16_dot::score_above(query, num_rows, head_dim, keys, thresholds, scores, masks);
  }
  HWY_DYNAMIC_DISPATCH(ScoreAbove)
  (query, num_rows, head_dim, keys, thresholds, scores, masks);
}
bool scores_in_place(int64_t num_rows, int64_t head_dim) {
  return has_bf16_dot && bf16_few_rows::takes(num_rows, head_dim);
}
void score_above_in_place(const FewRows& rows, float* scores, uint64_t* masks) {
  bf16_few_rows::score_above(rows, scores, masks);
}
void score_pairs(const float* const* queries, const BFloat16* const* keys, int64_t num_pairs,
                 int64_t head_dim, float* scores) {
  if (has_bf16_dot) return bf16_dot::score_pairs(queries, keys, num_pairs, head_dim, scores);
  HWY_DYNAMIC_DISPATCH(ScorePairs)(queries, keys, num_pairs, head_dim, scores);
}
void norm_row(const NormRow& row) { HWY_DYNAMIC_DISPATCH(NormOneRow)(row); }
void silu_mul_row(const float* gate, const float* up, int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(SiluMulOneRow)(gate, up, width, out);
}
std::string instruction_set() {
  return std::string(HWY_DYNAMIC_DISPATCH(TargetName)()) + (has_bf16_dot ? " with bf16 dots" : "");
}

}  // namespace quire::cpu
#endif
