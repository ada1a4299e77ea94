#include "kernels/quant/block_format.h"

#include <algorithm>
#include <bit>

#include "kernels/check.h"

namespace quire {
namespace {

constexpr int64_t kRun = 32;  // elements that nibbles come in, and under a scale of Q4_K and Q5_K

uint32_t byte_at(const std::byte* bytes, int64_t index) {
  return std::to_integer<uint32_t>(bytes[index]);
}

uint16_t float16_at(const std::byte* bytes) {
  return static_cast<uint16_t>(byte_at(bytes, 0) | byte_at(bytes, 1) << 8);
}

void set_plain(const std::byte* block, UnpackedBlock& out) {
  out.d = float16_at(block);
  out.dmin = 0;
  std::fill_n(out.scales.begin(), kRun / kScaleElements, int8_t{1});
  std::fill_n(out.minimums.begin(), kRun / kScaleElements, uint8_t{0});
}

void unpack_q8_0(const std::byte* block, UnpackedBlock& out) {
  set_plain(block, out);
  uint8_t* q = out.q.data();
  // With a zero of 128, the signed byte's upper bit is turned round.
  for (int64_t i = 0; i < kRun; ++i) q[i] = static_cast<uint8_t>(byte_at(block + 2, i) ^ 0x80);
}

void unpack_q4_0(const std::byte* block, UnpackedBlock& out) {
  set_plain(block, out);
  uint8_t* q = out.q.data();
  for (int64_t i = 0; i < kRun / 2; ++i) {
    q[i] = static_cast<uint8_t>(byte_at(block + 2, i) & 15);
    q[i + kRun / 2] = static_cast<uint8_t>(byte_at(block + 2, i) >> 4);
  }
}

/// Scales and minimums of Q4_K and Q5_K have six bits each: those of the first four runs lie whole
/// in bytes 0 to 3 and 4 to 7; of the last four, the low four bits are the nibbles of bytes 8 to
/// 11, and the upper two the upper two of bytes 0 to 7.
void unpack_scales(const std::byte* block, UnpackedBlock& out) {
  out.d = float16_at(block);
  out.dmin = float16_at(block + 2);
  const std::byte* packed = block + 4;
  for (int64_t run = 0; run < kMaxBlockElements / kRun; ++run) {
    uint32_t scale = byte_at(packed, run & 3);
    uint32_t minimum = byte_at(packed, 4 + (run & 3));
    if (run < 4) {
      scale &= 63;
      minimum &= 63;
    } else {
      const uint32_t low = byte_at(packed, 4 + run);
      scale = (low & 15) | (scale >> 6) << 4;
      minimum = (low >> 4) | (minimum >> 6) << 4;
    }
    for (int64_t part = 0; part < kRun / kScaleElements; ++part) {
      const auto index = static_cast<size_t>(run * (kRun / kScaleElements) + part);
      out.scales[index] = static_cast<int8_t>(scale);
      out.minimums[index] = static_cast<uint8_t>(minimum);
    }
  }
}

/// Two runs in the low and the high halves of each 32 bytes.
void unpack_nibbles(const std::byte* nibbles, UnpackedBlock& out) {
  for (int64_t i = 0; i < kMaxBlockElements; ++i) {
    const uint32_t pair = byte_at(nibbles, i / (2 * kRun) * kRun + i % kRun);
    out.q[static_cast<size_t>(i)] = static_cast<uint8_t>(i / kRun % 2 == 0 ? pair & 15 : pair >> 4);
  }
}

void unpack_q4_k(const std::byte* block, UnpackedBlock& out) {
  unpack_scales(block, out);
  unpack_nibbles(block + 16, out);
}

/// Bit `run` of byte i of the 32 bytes in front of the nibbles is the fifth bit.
void unpack_q5_k(const std::byte* block, UnpackedBlock& out) {
  unpack_scales(block, out);
  unpack_nibbles(block + 48, out);
  for (int64_t i = 0; i < kMaxBlockElements; ++i) {
    const uint32_t fifth = byte_at(block + 16, i % kRun) >> (i / kRun) & 1;
    out.q[static_cast<size_t>(i)] |= static_cast<uint8_t>(fifth << 4);
  }
}

/// For each half of the block, 64 bytes of nibbles, and 32 bytes whose pairs of bits are the upper
/// bits of four runs.
void unpack_q6_k(const std::byte* block, UnpackedBlock& out) {
  constexpr int64_t kUpperBits = 128, kScales = 192, kFactor = 208;
  out.d = float16_at(block + kFactor);
  out.dmin = 0;
  out.minimums.fill(0);
  for (int64_t i = 0; i < kMaxBlockElements; ++i) {
    const int64_t half = i / 128, quarter = i / kRun % 4;
    const uint32_t pair = byte_at(block + half * 64, quarter % 2 * kRun + i % kRun);
    const uint32_t low = quarter < 2 ? pair & 15 : pair >> 4;
    const uint32_t upper = byte_at(block + kUpperBits + half * kRun, i % kRun) >> (2 * quarter) & 3;
    out.q[static_cast<size_t>(i)] = static_cast<uint8_t>(low | upper << 4);
  }
  for (size_t i = 0; i < out.scales.size(); ++i) {
    out.scales[i] = static_cast<int8_t>(byte_at(block + kScales, static_cast<int64_t>(i)));
  }
}

}  // namespace

BlockLayout block_layout(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return {"Q8_0", 32, 34, 128};
    case BlockFormat::kQ4_0:
      return {"Q4_0", 32, 18, 8};
    case BlockFormat::kQ4_K:
      return {"Q4_K", 256, 144, 0};
    case BlockFormat::kQ5_K:
      return {"Q5_K", 256, 176, 0};
    case BlockFormat::kQ6_K:
      return {"Q6_K", 256, 210, 32};
  }
  return {"?", 1, 0, 0};
}

int64_t block_row_bytes(BlockFormat format, int64_t num_columns) {
  const BlockLayout layout = block_layout(format);
  QUIRE_CHECK(num_columns % layout.num_elements == 0)
      << num_columns << " columns in blocks of " << layout.num_elements;
  return num_columns / layout.num_elements * layout.num_bytes;
}

void unpack_block(BlockFormat format, const std::byte* block, UnpackedBlock& out) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return unpack_q8_0(block, out);
    case BlockFormat::kQ4_0:
      return unpack_q4_0(block, out);
    case BlockFormat::kQ4_K:
      return unpack_q4_k(block, out);
    case BlockFormat::kQ5_K:
      return unpack_q5_k(block, out);
    case BlockFormat::kQ6_K:
      return unpack_q6_k(block, out);
  }
}

// Products and differences are rounded one by one: this file is compiled with -ffp-contract=off.
void widen_blocks(BlockFormat format, const std::byte* blocks, std::span<float> out) {
  const BlockLayout layout = block_layout(format);
  const auto step = static_cast<size_t>(layout.num_elements);
  QUIRE_CHECK(out.size() % step == 0) << out.size() << " elements in blocks of " << step;
  UnpackedBlock block;
  for (size_t begin = 0; begin < out.size(); begin += step, blocks += layout.num_bytes) {
    unpack_block(format, blocks, block);
    const float d = float16_to_float(block.d), dmin = float16_to_float(block.dmin);
    for (size_t i = 0; i < step; ++i) {
      const float scale = d * static_cast<float>(block.scales[i / kScaleElements]);
      const float minimum = dmin * static_cast<float>(block.minimums[i / kScaleElements]);
      const float product = scale * static_cast<float>(block.q[i] - layout.zero);
      out[begin + i] = product - minimum;
    }
  }
}

float float16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 31u;
  const uint32_t fraction = bits & 1023u;
  if (exponent == 0) {  // zero and subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t widened = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

}  // namespace quire
