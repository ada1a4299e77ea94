#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace quire {

/// How GGUF stores the numbers of a row in blocks that share scales. All fields are little-endian,
/// `f16` is IEEE binary16. With `d`, `dmin` the block's f16 numbers, the value of element i is,
/// in f32, each product and difference rounded:
///
///   Q8_0  32 elements, 34 bytes: f16 d; i8 q[32]            d * q
///   Q4_0  32 elements, 18 bytes: f16 d; 4 bits q[32]        d * (q - 8)
///   Q4_K  256 elements, 144 bytes: f16 d, dmin; 6 bits s[8], m[8]; 4 bits q[256]
///                                                           (d * s) * q - (dmin * m)
///   Q5_K  256 elements, 176 bytes: the same with 5 bits of q
///   Q6_K  256 elements, 210 bytes: 6 bits q[256]; i8 s[16]; f16 d
///                                                           (d * s) * (q - 32)
///
/// s and m are those of the run of 32 (Q6_K: 16) elements that i is in. In the nibbles of 16 bytes
/// (Q4_0), 32 (Q4_K, Q5_K) or 64 (Q6_K) lie as many elements in the low halves and, behind them,
/// as many in the high ones.
enum class BlockFormat : uint8_t { kQ8_0, kQ4_0, kQ4_K, kQ5_K, kQ6_K };

struct BlockLayout {
  std::string_view name;  // "Q4_K"
  int64_t num_elements;   // of a block
  int64_t num_bytes;      // of a block
  int32_t zero;           // what is subtracted from the integers of an UnpackedBlock
};
BlockLayout block_layout(BlockFormat format);

/// Bytes of a row. REQUIRES: num_columns is a multiple of the block's elements.
int64_t block_row_bytes(BlockFormat format, int64_t num_columns);

inline constexpr int64_t kMaxBlockElements = 256;
inline constexpr int64_t kScaleElements = 16;  // elements under a scale of an UnpackedBlock

/// One block of any format, its fields out of their bits. Element i is, each step rounded to f32,
///   (d * scales[i / 16]) * float(q[i] - zero) - (dmin * minimums[i / 16])
/// which is what the formats say: a scale of 1 and a minimum of 0 change no bit.
struct UnpackedBlock {
  uint16_t d = 0;  // binary16
  uint16_t dmin = 0;
  std::array<uint8_t, kMaxBlockElements> q;
  std::array<int8_t, kMaxBlockElements / kScaleElements> scales;
  std::array<uint8_t, kMaxBlockElements / kScaleElements> minimums;
};
/// Elements behind the format's number are left as they were. `block` may lie at any address.
void unpack_block(BlockFormat format, const std::byte* block, UnpackedBlock& out);

/// The numbers of consecutive blocks, as the format defines them. The blocks may lie at any
/// address. REQUIRES: out.size() is a multiple of the block's elements, and `blocks` holds as many.
void widen_blocks(BlockFormat format, const std::byte* blocks, std::span<float> out);

/// The value of an IEEE binary16 number, exactly; NaN stays NaN.
float float16_to_float(uint16_t bits);

}  // namespace quire
