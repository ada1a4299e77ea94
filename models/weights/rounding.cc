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

/// out[i] = convert(the i-th `Stored` of `stored`).
template <class Stored, class Number, class Convert>
void convert_all(std::span<const std::byte> stored, Number* out, Convert convert) {
  for (size_t i = 0; i < stored.size() / sizeof(Stored); ++i) {
    Stored value{};
    std::memcpy(&value, stored.data() + i * sizeof value, sizeof value);
    out[i] = convert(value);
  }
}

}  // namespace

void round_f32(std::span<const std::byte> stored, BFloat16* out) {
  convert_all<float>(stored, out, [](float value) { return to_bfloat16(value); });
}

void round_f16(std::span<const std::byte> stored, BFloat16* out) {
  const BFloat16* table = f16_table().data();
  convert_all<uint16_t>(stored, out, [table](uint16_t bits) { return table[bits]; });
}

void widen_f16(std::span<const std::byte> stored, float* out) {
  convert_all<uint16_t>(stored, out, [](uint16_t bits) { return float16_to_float(bits); });
}

void widen_bf16(std::span<const std::byte> stored, float* out) {
  convert_all<BFloat16>(stored, out, [](BFloat16 value) { return to_float(value); });
}

}  // namespace quire
