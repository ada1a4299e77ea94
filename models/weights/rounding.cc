#include "models/weights/rounding.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace quire {
namespace {

/// The exact value of a float16.
float widen_f16(uint16_t bits) {
  constexpr float kSmallestF16 = 0x1p-24f;
  const float sign = (bits & 0x8000u) != 0 ? -1.0f : 1.0f;
  const uint32_t exponent = bits >> 10 & 0x1Fu, fraction = bits & 0x3FFu;
  if (exponent == 0) return sign * kSmallestF16 * static_cast<float>(fraction);
  const uint32_t wide_exponent = exponent == 0x1F ? 0xFFu : exponent + (127 - 15);
  const uint32_t wide = (bits & 0x8000u) << 16 | wide_exponent << 23 | fraction << 13;
  return std::bit_cast<float>(wide);
}

/// All float16 as bf16: small enough to stay in the second cache.
const std::vector<BFloat16>& f16_table() {
  static const std::vector<BFloat16> table = [] {
    std::vector<BFloat16> all(1 << 16);
    for (uint32_t bits = 0; bits < all.size(); ++bits) {
      all[bits] = to_bfloat16(widen_f16(static_cast<uint16_t>(bits)));
    }
    return all;
  }();
  return table;
}

}  // namespace

void round_f32(std::span<const std::byte> stored, BFloat16* out) {
  for (size_t i = 0; i < stored.size() / sizeof(float); ++i) {
    float value = 0;
    std::memcpy(&value, stored.data() + i * sizeof(float), sizeof value);
    out[i] = to_bfloat16(value);
  }
}

void round_f16(std::span<const std::byte> stored, BFloat16* out) {
  const BFloat16* table = f16_table().data();
  for (size_t i = 0; i < stored.size() / sizeof(uint16_t); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, stored.data() + i * sizeof(bits), sizeof bits);
    out[i] = table[bits];
  }
}

}  // namespace quire
