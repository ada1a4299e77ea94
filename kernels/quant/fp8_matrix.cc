#include "kernels/quant/fp8_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace quire {
namespace {

constexpr size_t kNumMagnitudes = 128;  // codes without the sign
constexpr uint8_t kNan = 0x7F;

/// The nearest bf16, ties to even. Two roundings in a row would see ties that are none. So the
/// first one is to odd: what lies between two floats becomes the one whose last bit is set, which
/// is never half-way between two bf16 (S. Boldo, G. Melquiond, "Emulation of a FMA and correctly
/// rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers 57,
/// 2008).
BFloat16 round_once(double value) {
  const auto nearest = static_cast<float>(value);
  auto bits = std::bit_cast<uint32_t>(nearest);
  if (static_cast<double>(nearest) != value) {
    if (std::abs(static_cast<double>(nearest)) > std::abs(value)) --bits;
    bits |= 1;
  }
  return to_bfloat16(std::bit_cast<float>(bits));
}

/// What every code is under this scale. A product of 4 and 24 significant bits is exact in f64.
std::array<BFloat16, 2 * kNumMagnitudes> scaled_numbers(float scale) {
  std::array<BFloat16, 2 * kNumMagnitudes> numbers;
  for (size_t code = 0; code < kNumMagnitudes; ++code) {
    const double magnitude = e4m3_to_float(static_cast<uint8_t>(code));
    numbers[code] = round_once(magnitude * static_cast<double>(scale));
    numbers[code + kNumMagnitudes] = {static_cast<uint16_t>(numbers[code].bits | 0x8000u)};
  }
  return numbers;
}

}  // namespace

float e4m3_to_float(uint8_t code) {
  constexpr int kBias = 7, kFractionBits = 3;
  const int magnitude = code & 0x7F;
  const int exponent = magnitude >> kFractionBits;
  const int fraction = magnitude & ((1 << kFractionBits) - 1);
  float value = 0;
  if (magnitude == kNan) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {  // subnormal
    value = std::ldexp(static_cast<float>(fraction), 1 - kBias - kFractionBits);
  } else {
    value = std::ldexp(static_cast<float>(fraction + (1 << kFractionBits)),
                       exponent - kBias - kFractionBits);
  }
  return std::copysign(value, code < kNumMagnitudes ? 1.0f : -1.0f);
}

void widen_fp8(const Fp8Matrix& matrix, BFloat16* out) {
  const float* scale = matrix.scales.data();
  for (int64_t top = 0; top < matrix.num_rows; top += matrix.tile_rows) {
    const int64_t bottom = std::min(top + matrix.tile_rows, matrix.num_rows);
    for (int64_t left = 0; left < matrix.num_columns; left += matrix.tile_columns) {
      const int64_t right = std::min(left + matrix.tile_columns, matrix.num_columns);
      const auto numbers = scaled_numbers(*scale++);
      for (int64_t row = top; row < bottom; ++row) {
        const std::byte* codes = matrix.codes.data() + row * matrix.num_columns;
        BFloat16* out_row = out + row * matrix.num_columns;
        for (int64_t i = left; i < right; ++i) {
          out_row[i] = numbers[std::to_integer<size_t>(codes[i])];
        }
      }
    }
  }
}

}  // namespace quire
