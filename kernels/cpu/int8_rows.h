#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/cpu/matmul.h"
#include "kernels/int8_grid.h"

// Rows on their int8 grids (kernels/int8_grid.h), with Highway for every instruction set.

namespace quire::cpu {

/// One row rounded to its grid.
struct Int8Row {
  float scale = 0;
  int32_t sum = 0;  // of its int8 values
};
/// Writes count values. If the scale is NaN, they are arbitrary.
Int8Row quantise_row(const BFloat16* row, int64_t count, int8_t* values);

/// All rows of `a`, contiguous bf16: values (row_bytes from row to row, zeros behind the last
/// column), sums and scales of the scratch.
void quantise_rows(const ConstTensorView& a, int64_t row_bytes, MatmulScratch& scratch);

/// sum of a[i] * b[i], exact for at most kMaxInt8Columns values.
int32_t dot_int8(const int8_t* a, const int8_t* b, int64_t count);

}  // namespace quire::cpu
