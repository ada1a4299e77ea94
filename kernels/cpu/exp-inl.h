// Included once per instruction set (Highway's -inl convention), hence no #pragma once.
#if defined(QUIRE_KERNELS_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUIRE_KERNELS_CPU_EXP_INL_H_
#undef QUIRE_KERNELS_CPU_EXP_INL_H_
#else
#define QUIRE_KERNELS_CPU_EXP_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/cpu/simd_rows.h"

HWY_BEFORE_NAMESPACE();
namespace quire::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kPadding>;
using Vector = hn::Vec<Floats>;

/// 2^n * e^r for whole n and |r| <= ln(2) / 2, about 2 ulp (Cephes' expf: degree-5 polynomial).
HWY_INLINE Vector ScaledExp(Floats d, Vector n, Vector r) {
  const hn::RebindToSigned<Floats> di;
  Vector p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(di, n));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
}

/// e^x for x <= 0. Below -87.3 the result is 0; NaN stays NaN.
HWY_INLINE Vector ExpNonPositive(Floats d, Vector x) {
  const auto is_nan = hn::Ne(x, x);
  const auto is_tiny = hn::Lt(x, hn::Set(d, -87.3f));
  const Vector clamped = hn::IfThenElse(is_tiny, hn::Set(d, -87.3f), x);
  const Vector n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504088896341f)));
  // ln 2 in two parts: n times the first one is exact.
  Vector r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), clamped);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  return hn::IfThenElse(is_nan, x, hn::IfThenZeroElse(is_tiny, ScaledExp(d, n, r)));
}

/// 2^x for x <= 0. Below -126 the result is 0; NaN stays NaN.
HWY_INLINE Vector Exp2NonPositive(Floats d, Vector x) {
  const auto is_nan = hn::Ne(x, x);
  const auto is_tiny = hn::Lt(x, hn::Set(d, -126.0f));
  const Vector clamped = hn::IfThenElse(is_tiny, hn::Set(d, -126.0f), x);
  const Vector n = hn::Round(clamped);
  const Vector r = hn::Mul(hn::Sub(clamped, n), hn::Set(d, 0.693147180559945309f));
  return hn::IfThenElse(is_nan, x, hn::IfThenZeroElse(is_tiny, ScaledExp(d, n, r)));
}

}  // namespace HWY_NAMESPACE
}  // namespace quire::cpu
HWY_AFTER_NAMESPACE();

#endif
