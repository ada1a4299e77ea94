#include "kernels/cpu/int8_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int8_rows.cc"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr uint16_t kMagnitude = 0x7FFF;  // of a bf16: everything but its sign

/// The largest magnitude. bf16 magnitudes are ordered as their bits are, NaN above infinity.
BFloat16 LargestMagnitude(const BFloat16* row, int64_t count) {
  const hn::ScalableTag<int16_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto* bits = reinterpret_cast<const int16_t*>(row);
  auto largest = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto magnitude = hn::And(hn::LoadU(d, bits + i), hn::Set(d, int16_t{kMagnitude}));
    largest = hn::Max(largest, magnitude);
  }
  HWY_ALIGN int16_t each[hn::MaxLanes(d)];
  hn::Store(largest, d, each);
  int16_t result = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) result = std::max(result, each[lane]);
  for (; i < count; ++i) {
    result = std::max(result, static_cast<int16_t>(row[i].bits & kMagnitude));
  }
  return BFloat16{static_cast<uint16_t>(result)};
}

/// values[i] = round(row[i] * inverse); returns their sum. The same operations in vectors and in
/// the rest of the row: a row padded with zeros.
int32_t RoundToGrid(const BFloat16* row, int64_t count, float inverse, int8_t* values) {
  const hn::ScalableTag<int32_t> d;
  const hn::Rebind<float, decltype(d)> df;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  const hn::Rebind<uint32_t, decltype(d)> du;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  const auto round = [&](const uint16_t* in, int8_t* out) HWY_ATTR {
    const auto bits = hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, in)));
    const auto steps = hn::NearestInt(hn::Mul(hn::BitCast(df, bits), hn::Set(df, inverse)));
    sum = hn::Add(sum, steps);
    hn::StoreU(hn::DemoteTo(d8, steps), d8, out);
  };
  const auto* in = reinterpret_cast<const uint16_t*>(row);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) round(in + i, values + i);
  if (i < count) {
    uint16_t rest[hn::MaxLanes(d)] = {};
    int8_t rounded[hn::MaxLanes(d)];
    std::memcpy(rest, in + i, static_cast<size_t>(count - i) * sizeof(uint16_t));
    round(rest, rounded);
    std::memcpy(values + i, rounded, static_cast<size_t>(count - i));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

int32_t DotInt8(const int8_t* a, const int8_t* b, int64_t count) {
  const hn::ScalableTag<int16_t> d16;
  const hn::RepartitionToWide<decltype(d16)> d32;
  const hn::Rebind<int8_t, decltype(d16)> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d16));
  auto sum0 = hn::Zero(d32), sum1 = hn::Zero(d32);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto left = hn::PromoteTo(d16, hn::LoadU(d8, a + i));
    const auto right = hn::PromoteTo(d16, hn::LoadU(d8, b + i));
    sum0 = hn::ReorderWidenMulAccumulate(d32, left, right, sum0, sum1);
  }
  int32_t result = hn::GetLane(hn::SumOfLanes(d32, hn::Add(sum0, sum1)));
  for (; i < count; ++i) result += int32_t{a[i]} * b[i];
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {
namespace {

HWY_EXPORT(LargestMagnitude);
HWY_EXPORT(RoundToGrid);
HWY_EXPORT(DotInt8);

constexpr int64_t kValuesPerGrain = 8192;  // worth handing to another thread

}  // namespace

Int8Row quantise_row(const BFloat16* row, int64_t count, int8_t* values) {
  const Int8Grid grid = int8_grid(to_float(HWY_DYNAMIC_DISPATCH(LargestMagnitude)(row, count)));
  return {grid.scale, HWY_DYNAMIC_DISPATCH(RoundToGrid)(row, count, grid.inverse, values)};
}

void quantise_rows(const ConstTensorView& a, int64_t row_bytes, MatmulScratch& scratch) {
  const int64_t num_rows = a.shape[0], k = a.shape[1];
  scratch.values.resize(static_cast<size_t>(num_rows * row_bytes));
  scratch.sums.resize(static_cast<size_t>(num_rows));
  scratch.scales.resize(static_cast<size_t>(num_rows));
  const int64_t grain = std::max<int64_t>(kValuesPerGrain / (k + 1), 1);
  parallel_for(num_rows, grain, [&](int64_t row) {
    int8_t* values = scratch.values.data() + row * row_bytes;
    const Int8Row result = quantise_row(a.data_as<BFloat16>() + row * k, k, values);
    std::memset(values + k, 0, static_cast<size_t>(row_bytes - k));
    scratch.sums[static_cast<size_t>(row)] = result.sum;
    scratch.scales[static_cast<size_t>(row)] = result.scale;
  });
}

int32_t dot_int8(const int8_t* a, const int8_t* b, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(DotInt8)(a, b, count);
}

}  // namespace quire::cpu
#endif
