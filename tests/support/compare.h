#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/bfloat16.h"

namespace quire::test {

/// How far element `index` may be from what is expected. Every use derives it from the op's own
/// arithmetic and says how.
struct Tolerance {
  double absolute = 0;
  double relative = 0;  // of |expected|
  std::function<double(size_t index)> at =
      {};  // added per element, where the bound depends on the inputs
};

/// f32's and bf16's unit roundoff: the largest relative error of one rounding.
inline constexpr double kF32Roundoff = 0x1p-24;
inline constexpr double kBF16Roundoff = 0x1p-9;

/// Two results that are close in f32 can round to neighbouring bf16 values: their distance is at
/// most one whole step, 2^-7 of the value at the lower end of a binade.
inline constexpr double kBF16Step = 0x1p-7;

/// Empty if `actual` matches. Otherwise the first offending index with both values. NaNs and
/// infinities must stand at the same places (infinities with the same sign); only then are the
/// finite values compared, by !(error <= tolerance), so that a NaN can never pass.
std::string difference(std::span<const float> actual, std::span<const float> expected,
                       const Tolerance& tolerance);

/// The same, for equality bit for bit, except that any NaN equals any NaN.
std::string difference(std::span<const float> actual, std::span<const float> expected);
std::string difference(std::span<const BFloat16> actual, std::span<const BFloat16> expected);
std::string difference(std::span<const int32_t> actual, std::span<const int32_t> expected);

std::vector<float> widen(std::span<const BFloat16> values);
std::vector<BFloat16> narrow(std::span<const float> values);

}  // namespace quire::test
