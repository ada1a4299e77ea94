#pragma once

#include <cstddef>
#include <cstdint>

// Products of rows with one panel of a packed weight, by AVX-512's dot products: two products of
// bf16 (AVX512_BF16) or four of int8 (AVX512_VNNI) per lane and instruction. Both work on words of
// four bytes, so they share one loop. Where the CPU has AMX, its tiles do the same (amx_panel.h)
// several times as fast.
//
// A sum of the result has one order of its products, whatever the number of rows, the tile that it
// falls into and the pieces that k is cut into; pieces of bf16 are multiples of 32 values, but for
// the last one.

namespace quire::cpu::panel_dot {

/// Columns of the result that a panel holds.
inline constexpr int64_t kColumns = 64;
/// Values of k in a word.
inline constexpr int64_t kBf16PerWord = 2, kInt8PerWord = 4;
/// Words of k between two looks at the sums: a piece of the panel (256 KiB) stays in the second
/// cache level while all rows pass by.
inline constexpr int64_t kWordsAtOnce = 1024;

/// Whether this CPU has the instructions, and they are in use.
bool has_bf16();
bool has_int8();
/// Makes weights that are packed from now on do without these instructions, or use them again where
/// the CPU has them. For tests.
void use(bool wanted);

/// What both kinds of product have in common.
struct Product {
  const std::byte* a = nullptr;  // [num_rows, num_words]; zeros in a word behind the end of k
  int64_t a_stride_bytes = 0;    // from one row to the next
  int64_t num_rows = 0;
  int64_t num_words = 0;
  const uint32_t* panel = nullptr;  // [num_words, kColumns], aligned to 64 bytes
  float* out = nullptr;             // [num_rows, num_columns]
  int64_t out_stride = 0;           // floats from one row to the next
  int64_t num_columns = kColumns;   // 1 to kColumns
  bool adds = false;                // `out` holds the sums of the words before these
};

/// Words of bf16: out = a * panel, summed in f32. With `adds`, each sum goes on where it was.
void multiply_bf16(const Product& product);

/// Words of int8; the panel holds weight + 128 without signs, which is what the instruction takes.
///   out[m, n] = float(sum a * panel - 128 * row_sums[m]) * row_scales[m] * column_scales[n]
struct Int8Terms {
  const int32_t* row_sums = nullptr;     // [num_rows], of the values of `a`
  const float* row_scales = nullptr;     // [num_rows]
  const float* column_scales = nullptr;  // [num_columns]
};
void multiply_int8(const Product& product, const Int8Terms& terms);

}  // namespace quire::cpu::panel_dot
