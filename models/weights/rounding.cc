#include "models/weights/rounding.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/quant/block_format.h"

namespace quire {
namespace {

/// All float16 as bf16: small enough to stay in the second cache.
const std::vector<BFloat16>& f16_table() {
  static const std::vector<BFloat16> table = [] {
    std::vector<BFloat16> all(1 << 16);
    for (uint32_t bits = 0; bits < all.size(); ++bits) {
      all[bits] = to_bfloat16(float16_to_float(static_cast<uint16_t>(bits)));
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

void widen_f16(std::span<const std::byte> stored, float* out) {
  for (size_t i = 0; i < stored.size() / sizeof(uint16_t); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, stored.data() + i * sizeof(bits), sizeof bits);
    out[i] = float16_to_float(bits);
  }
}

void widen_bf16(std::span<const std::byte> stored, float* out) {
  for (size_t i = 0; i < stored.size() / sizeof(BFloat16); ++i) {
    BFloat16 number{};
    std::memcpy(&number, stored.data() + i * sizeof(number), sizeof number);
    out[i] = to_float(number);
  }
}

}  // namespace quire
