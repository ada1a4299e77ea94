#include "kernels/cpu/attention_tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/bf16_attention.h"
#include "kernels/cpu/bf16_few_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_tile.cc"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include "kernels/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.44269504088896341f;

/// packed: [kTileKeys, padded head_dim], f32.
void PackValues(const BFloat16* const* values, int64_t num_keys, int64_t head_dim, float* packed) {
  const int64_t stride = padded_dim(head_dim);
  for (int64_t j = 0; j < kTileKeys; ++j) {
    float* row = packed + j * stride;
    if (j < num_keys) to_float(values[j], head_dim, row);
    const int64_t begin = j < num_keys ? head_dim : 0;
    std::memset(row + begin, 0, static_cast<size_t>(stride - begin) * sizeof(float));
  }
}

/// Turns a row's scores into weights and updates its maximum and sum. Returns what the row's
/// earlier output must be scaled by.
HWY_INLINE float WeighRow(float* scores, int32_t limit, float softmax_scale,
                          const float* key_scales, float* row_max, float* row_sum) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vector scale = hn::Set(d, softmax_scale), lowest = hn::Set(d, kMinusInfinity);
  Vector max = lowest;
  for (int64_t j = 0; j < kTileKeys; j += lanes) {
    const auto visible = hn::FirstN(d, static_cast<size_t>(limit > j ? limit - j : 0));
    Vector score = hn::LoadU(d, scores + j);
    if (key_scales != nullptr) score = hn::Mul(score, hn::LoadU(d, key_scales + j));
    score = hn::IfThenElse(visible, hn::Mul(score, scale), lowest);
    hn::StoreU(score, d, scores + j);
    max = hn::Max(score, max);
  }
  const float new_max = std::fmax(*row_max, hn::GetLane(hn::MaxOfLanes(d, max)));
  // Nothing but -inf so far: the weights would be 2^(-inf + inf). They count as 0.
  const Vector base = hn::Set(d, new_max == kMinusInfinity ? 0.0f : new_max);
  Vector sum = hn::Zero(d);
  for (int64_t j = 0; j < kTileKeys; j += lanes) {
    const Vector weight = Exp2NonPositive(d, hn::Sub(hn::LoadU(d, scores + j), base));
    hn::StoreU(weight, d, scores + j);
    sum = hn::Add(sum, weight);
  }
  const Vector correction = Exp2NonPositive(d, hn::Sub(hn::Set(d, *row_max), base));
  const float factor = hn::GetLane(correction);
  *row_sum = *row_sum * factor + hn::GetLane(hn::SumOfLanes(d, sum));
  *row_max = new_max;
  return factor;
}

/// out[r, :] = out[r, :] * factors[r] + sum over j < num_keys of weights[r, j] * values[j, :], per
/// element one chain over the keys.
template <int kRows>
HWY_INLINE void AccumulateRows(const float* weights, int64_t num_keys, const float* values,
                               int64_t head_dim, const float* factors, float* out) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stride = padded_dim(head_dim);
  constexpr int kVectors = 4;
  int64_t i = 0;
  for (; i + kVectors * lanes <= stride; i += kVectors * lanes) {
    Vector acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      const Vector factor = hn::Set(d, factors[r]);
      for (int v = 0; v < kVectors; ++v) {
        acc[r][v] = hn::Mul(hn::LoadU(d, out + r * stride + i + v * lanes), factor);
      }
    }
    for (int64_t j = 0; j < num_keys; ++j) {
      Vector value[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        value[v] = hn::LoadU(d, values + j * stride + i + v * lanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const Vector weight = hn::Set(d, weights[r * kTileKeys + j]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(weight, value[v], acc[r][v]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        hn::StoreU(acc[r][v], d, out + r * stride + i + v * lanes);
      }
    }
  }
  for (; i < stride; i += lanes) {
    for (int r = 0; r < kRows; ++r) {
      Vector acc = hn::Mul(hn::LoadU(d, out + r * stride + i), hn::Set(d, factors[r]));
      for (int64_t j = 0; j < num_keys; ++j) {
        acc = hn::MulAdd(hn::Set(d, weights[r * kTileKeys + j]),
                         hn::LoadU(d, values + j * stride + i), acc);
      }
      hn::StoreU(acc, d, out + r * stride + i);
    }
  }
}

void AttendTileRows(const AttendTile& tile) {
  const int64_t stride = padded_dim(tile.head_dim);
  constexpr int64_t kRows = 4;
  float scores[kRows * kTileKeys];
  for (int64_t r0 = 0; r0 < tile.num_rows; r0 += kRows) {
    const int64_t num_rows = r0 + kRows <= tile.num_rows ? kRows : tile.num_rows - r0;
    const int32_t* limits = tile.limits + r0;
    float* out = tile.state.out + r0 * stride;
    if (tile.is_first) {
      std::fill_n(tile.state.max + r0, num_rows, kMinusInfinity);
      std::fill_n(tile.state.sum + r0, num_rows, 0.0f);
      std::fill_n(out, num_rows * stride, 0.0f);
    }
    score_tile(tile.query + r0 * query_stride(tile.head_dim), num_rows, tile.head_dim, tile.keys,
               scores);
    float factors[kRows];
    bool same_limit = num_rows == kRows;
    for (int64_t r = 0; r < num_rows; ++r) {
      same_limit = same_limit && limits[r] == limits[0];
      if (limits[r] == 0) continue;
      factors[r] = WeighRow(scores + r * kTileKeys, limits[r], tile.softmax_scale * kLog2E,
                            tile.key_scales, tile.state.max + r0 + r, tile.state.sum + r0 + r);
    }
    // Rows with different limits go one by one, so that none touches keys behind its own.
    if (same_limit && limits[0] > 0) {
      AccumulateRows<kRows>(scores, limits[0], tile.values, tile.head_dim, factors, out);
      continue;
    }
    for (int64_t r = 0; r < num_rows; ++r) {
      if (limits[r] == 0) continue;
      AccumulateRows<1>(scores + r * kTileKeys, limits[r], tile.values, tile.head_dim, factors + r,
                        out + r * stride);
    }
  }
}

/// into = into * into_factor + part * part_factor.
HWY_INLINE void AddScaled(const float* part, float part_factor, int64_t stride, float into_factor,
                          float* into) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < stride; i += lanes) {
    const Vector scaled = hn::Mul(hn::LoadU(d, into + i), hn::Set(d, into_factor));
    hn::StoreU(hn::MulAdd(hn::Set(d, part_factor), hn::LoadU(d, part + i), scaled), d, into + i);
  }
}

void FoldStates(const SoftmaxRows& part, int64_t num_rows, int64_t head_dim,
                const SoftmaxRows& into) {
  const int64_t stride = padded_dim(head_dim);
  for (int64_t r = 0; r < num_rows; ++r) {
    if (part.max[r] == kMinusInfinity && part.sum[r] == 0) continue;  // it saw no key
    const float max = std::fmax(into.max[r], part.max[r]);
    const float base = max == kMinusInfinity ? 0 : max;
    const float into_factor = std::exp2(into.max[r] - base);
    const float part_factor = std::exp2(part.max[r] - base);
    into.max[r] = max;
    into.sum[r] = into.sum[r] * into_factor + part.sum[r] * part_factor;
    AddScaled(part.out + r * stride, part_factor, stride, into_factor, into.out + r * stride);
  }
}

void Merge(const MergePartials& partials) {
  const Floats d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t stride = padded_dim(partials.head_dim);
  float max = kMinusInfinity;
  for (int64_t p = 0; p < partials.num_partials; ++p) {
    max = std::fmax(max, partials.state.max[partials.places[p]]);
  }
  float total = 0;
  std::memset(partials.out, 0, static_cast<size_t>(stride) * sizeof(float));
  for (int64_t p = 0; p < partials.num_partials; ++p) {
    const int64_t place = partials.places[p];
    const float factor = std::exp2(partials.state.max[place] - max);
    total += factor * partials.state.sum[place];
    AddScaled(partials.state.out + place * stride, factor, stride, 1.0f, partials.out);
  }
  for (int64_t i = 0; i < stride; i += lanes) {
    hn::StoreU(hn::Div(hn::LoadU(d, partials.out + i), hn::Set(d, total)), d, partials.out + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(PackValues);
HWY_EXPORT(AttendTileRows);
HWY_EXPORT(FoldStates);
HWY_EXPORT(Merge);

int64_t packed_values_size(int64_t head_dim) {
  return uses_bf16_dot() ? bf16_attention::packed_values_size(head_dim)
                         : padded_dim(head_dim) * kTileKeys;
}
void pack_values(const BFloat16* const* values, int64_t num_keys, int64_t head_dim, float* packed) {
  if (uses_bf16_dot()) return bf16_attention::pack_values(values, num_keys, head_dim, packed);
  HWY_DYNAMIC_DISPATCH(PackValues)(values, num_keys, head_dim, packed);
}
void attend_tile(const AttendTile& tile) {
  if (uses_bf16_dot()) return bf16_attention::attend_tile(tile);
  HWY_DYNAMIC_DISPATCH(AttendTileRows)(tile);
}
bool attends_in_place(const AttendTile& tile) {
  return uses_bf16_dot() && bf16_few_rows::takes(tile.num_rows, tile.head_dim) &&
         std::all_of(tile.limits, tile.limits + tile.num_rows,
                     [&](int32_t limit) { return limit == tile.num_keys; });
}
void attend_in_place(const AttendTile& tile, const TileRowsInPlace& rows) {
  bf16_few_rows::attend(tile, rows);
}
void fold_states(const SoftmaxRows& part, int64_t num_rows, int64_t head_dim,
                 const SoftmaxRows& into) {
  HWY_DYNAMIC_DISPATCH(FoldStates)(part, num_rows, head_dim, into);
}
void merge_partials(const MergePartials& partials) { HWY_DYNAMIC_DISPATCH(Merge)(partials); }

}  // namespace quire::cpu
#endif
