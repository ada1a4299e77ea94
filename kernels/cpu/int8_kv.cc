#include "kernels/cpu/int8_kv.h"

#include <algorithm>
#include <bit>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/int8_kv.cc"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Int32s = hn::RebindToSigned<Floats>;
using Int8s = hn::Rebind<int8_t, Floats>;

constexpr int32_t kMagnitude = 0x7FFFFFFF;  // of a float's bits
constexpr int32_t kInfinity = 0x7F800000;
constexpr float kLargest = 127.0f;

/// The largest |in[i]| as bits, which order as the magnitudes do, NaN above infinity.
int32_t LargestMagnitude(const float* in, int64_t count) {
  const Floats d;
  const Int32s di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(di);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits = hn::BitCast(di, hn::LoadU(d, in + i));
    largest = hn::Max(largest, hn::And(bits, hn::Set(di, kMagnitude)));
  }
  int32_t result = hn::GetLane(hn::MaxOfLanes(di, largest));
  for (; i < count; ++i) result = std::max(result, std::bit_cast<int32_t>(in[i]) & kMagnitude);
  return result;
}

void QuantiseKvRow(const float* in, int64_t count, int8_t* out, BFloat16* scale) {
  const int32_t largest = LargestMagnitude(in, count);
  const bool is_finite = largest < kInfinity;
  const float step = is_finite ? std::bit_cast<float>(largest) / kLargest : NAN;
  *scale = to_bfloat16(step);
  if (quire::to_float(*scale) < step) ++scale->bits;  // rounded up
  const float divisor = quire::to_float(*scale);
  if (!(divisor > 0)) {  // zeros, or NaN
    std::fill_n(out, count, int8_t{0});
    return;
  }
  const Floats d;
  const Int8s d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto divisors = hn::Set(d, divisor);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto rounded = hn::Round(hn::Div(hn::LoadU(d, in + i), divisors));
    const auto held = hn::Max(hn::Min(rounded, hn::Set(d, kLargest)), hn::Set(d, -kLargest));
    hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(Int32s(), held)), d8, out + i);
  }
  for (; i < count; ++i) {
    out[i] = static_cast<int8_t>(std::clamp(std::nearbyint(in[i] / divisor), -kLargest, kLargest));
  }
}

void DequantiseKvRow(const int8_t* in, float scale, int64_t count, float* out) {
  const Floats d;
  const Int8s d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scales = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto wide = hn::ConvertTo(d, hn::PromoteTo(Int32s(), hn::LoadU(d8, in + i)));
    hn::StoreU(hn::Mul(wide, scales), d, out + i);
  }
  for (; i < count; ++i) out[i] = static_cast<float>(in[i]) * scale;
}

void DequantiseKvRowToBFloat16(const int8_t* in, float scale, int64_t count, BFloat16* out) {
  const Floats d;
  const Int8s d8;
  const Int32s di;
  const hn::RebindToUnsigned<Floats> d32;
  const hn::Rebind<uint16_t, Floats> d16;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scales = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto wide = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, in + i)));
    // A NaN comes from the scale, which is a bf16: rounding carries nothing into its sign.
    const auto bits = hn::BitCast(d32, hn::Mul(wide, scales));
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7FFFu)));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(rounded))), d16,
               reinterpret_cast<uint16_t*>(out + i));
  }
  for (; i < count; ++i) out[i] = to_bfloat16(static_cast<float>(in[i]) * scale);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire::cpu {

HWY_EXPORT(QuantiseKvRow);
HWY_EXPORT(DequantiseKvRow);
HWY_EXPORT(DequantiseKvRowToBFloat16);

void quantise_kv_row(const float* in, int64_t count, int8_t* out, BFloat16* scale) {
  HWY_DYNAMIC_DISPATCH(QuantiseKvRow)(in, count, out, scale);
}
void dequantise_kv_row(const int8_t* in, float scale, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(DequantiseKvRow)(in, scale, count, out);
}
void dequantise_kv_row(const int8_t* in, float scale, int64_t count, BFloat16* out) {
  HWY_DYNAMIC_DISPATCH(DequantiseKvRowToBFloat16)(in, scale, count, out);
}

}  // namespace quire::cpu
#endif
