#pragma once

#include <bit>
#include <cstdint>

namespace quire {

/// The storage type of weights and of the KV cache: the upper half of an IEEE float32.
struct BFloat16 {
  uint16_t bits = 0;

  friend bool operator==(BFloat16, BFloat16) = default;
};
static_assert(sizeof(BFloat16) == 2);

inline float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

/// Round to nearest, ties to even. NaN stays NaN (quiet); infinities and signed zeros are kept.
inline BFloat16 to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return {static_cast<uint16_t>((bits >> 16) | 0x0040u)};
  }
  const uint32_t round_up = 0x7FFFu + ((bits >> 16) & 1u);
  return {static_cast<uint16_t>((bits + round_up) >> 16)};
}

/// The value a float takes when it is stored as bf16 and read back.
inline float round_to_bfloat16(float value) { return to_float(to_bfloat16(value)); }

}  // namespace quire
