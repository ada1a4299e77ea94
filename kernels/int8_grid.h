#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace quire {

/// The numbers that one row of an int8 product is rounded to: scale * q, q from -127 to 127.
///   q = round to nearest even (x * inverse), in f32
/// The largest magnitude of the row is 127 steps, so |x - scale * q| <= scale / 2, but for two
/// roundings of f32.
struct Int8Grid {
  float scale = 0;
  float inverse = 0;  // 0: every q is 0
};

inline constexpr float kLargestInt8 = 127;
/// A row that is smaller throughout counts as zero: the inverse must stay finite.
inline constexpr float kSmallestInt8Row = 0x1p-100f;

/// `largest` is the largest magnitude of the row. NaN or infinity: the scale is NaN.
inline Int8Grid int8_grid(float largest) {
  if (!std::isfinite(largest)) return {std::numeric_limits<float>::quiet_NaN(), 0};
  if (largest < kSmallestInt8Row) return {};
  return {largest / kLargestInt8, kLargestInt8 / largest};
}

}  // namespace quire
