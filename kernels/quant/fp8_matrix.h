#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/bfloat16.h"

namespace quire {

/// The value of an FP8 number of type E4M3: a sign, four bits of exponent with bias 7, three of
/// fraction; 0x7F and 0xFF are NaN, nothing is infinite, the largest number is 448. Source: Open
/// Compute Project, "OCP 8-bit Floating Point Specification (OFP8)", 2023, table 1.
float e4m3_to_float(uint8_t code);

/// A matrix in FP8 whose numbers share scales by tile; tiles at the last row and column may be cut.
struct Fp8Matrix {
  std::span<const std::byte> codes = {};  // [num_rows, num_columns] E4M3
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  int64_t tile_rows = 1;
  int64_t tile_columns = 1;
  std::span<const float> scales = {};  // [num_row_tiles, num_column_tiles]

  int64_t num_row_tiles() const { return (num_rows + tile_rows - 1) / tile_rows; }
  int64_t num_column_tiles() const { return (num_columns + tile_columns - 1) / tile_columns; }
};

/// Writes [num_rows, num_columns]: each number times its scale, rounded once from the exact
/// product, to the nearest, ties to even. NaN stays NaN; what is larger than every bf16 becomes
/// infinity. REQUIRES: the spans have these sizes, extents are positive, scales not negative.
void widen_fp8(const Fp8Matrix& matrix, BFloat16* out);

}  // namespace quire
