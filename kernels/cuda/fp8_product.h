#pragma once

#include <cstdint>

#include "kernels/cuda/device_stream.h"
#include "kernels/tensor.h"

// Products with weights that stay in FP8 (E4M3, kernels/quant/fp8_matrix.h): half of bf16's memory
// and, in decoding, half of what has to be read. The numbers become bf16 on their way to the tensor
// cores, rounded as the host rounds them, and meet the same sums: what comes out has the bits of
// matmul_product.cu with the widened weight. Activations are not quantised.

namespace quire::cuda {

/// A matrix in device memory. Scales are those of a row and a tile of columns.
struct Fp8Weight {
  const uint8_t* codes;  // [num_rows, pitch], 16-byte aligned; zeros behind the columns
  const float* scales;   // [num_rows, num_tiles], see is_fp8_scale
  int64_t num_rows, num_columns, pitch, tile_columns, num_tiles;
};

/// The pitch of rows of `num_columns` codes.
inline int64_t fp8_pitch(int64_t num_columns) { return (num_columns + 15) / 16 * 16; }

/// Tiles of columns end where a kernel's step through k ends.
inline constexpr int64_t kFp8TileUnit = 64;

/// Scales whose products with E4M3's smallest numbers are far from f32's own smallest: the rounding
/// of a product is found from its exact error, which must be a number itself.
inline bool is_fp8_scale(float scale) { return scale == 0 || scale >= 0x1p-90f; }

/// out = a * weight^T. `a`: [m, k] bf16.
void fp8_product(const ConstTensorView& a, const Fp8Weight& weight, const TensorView& out,
                 const OpStream& stream);

}  // namespace quire::cuda
