#pragma once

#include <cstdint>

#include "kernels/cuda/device_stream.h"
#include "kernels/tensor.h"

// Products of rows on grids of 8-bit integers (kernels/int8_grid.h), by this folder's own kernels:
// a sum of integers is exact, so nothing but speed would come from a library, whose layouts and
// scaling nobody has tried yet.

namespace quire::cuda {

/// Rows on their grids, in device memory. Behind the columns lie zeros up to the pitch.
struct Int8Rows {
  int8_t* values;  // [num_rows, pitch], 16-byte aligned
  float* scales;   // [num_rows]
  int64_t num_rows, pitch;

  Int8Rows rows(int64_t first, int64_t count) const {
    return {values + first * pitch, scales + first, count, pitch};
  }
};

/// The pitch of rows of `num_columns` integers.
inline int64_t int8_pitch(int64_t num_columns) { return (num_columns + 15) / 16 * 16; }

/// Each row of `from` ([num_rows, k] bf16, device memory) by its own largest magnitude.
void quantise_rows(const ConstTensorView& from, const Int8Rows& to, const OpStream& stream);

/// out = f32(a * weight^T) * a.scales * weight.scales, multiplied from left to right.
void int8_product(const Int8Rows& a, const Int8Rows& weight, const TensorView& out,
                  const OpStream& stream);

}  // namespace quire::cuda
