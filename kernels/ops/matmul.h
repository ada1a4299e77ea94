#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace quire {

/// What a weight is multiplied as.
enum class WeightFormat : uint8_t {
  kOriginal,  // the dtype it comes in
  kInt8,      // bf16 rounded to a grid of 255 values per row: half the memory
  kFloat32,   // f32, and so are the rows that it multiplies
};

/// Of the rows that weights in a format multiply, and of all activations beside them.
constexpr DType activation_dtype(WeightFormat format) {
  return format == WeightFormat::kFloat32 ? DType::kF32 : DType::kBF16;
}

/// A weight matrix in the layout its backend likes best, made once by Backend::pack_weight.
/// Immutable, shared by all threads. A backend accepts only what it packed itself.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual int64_t num_rows() const = 0;     // n, the output features
  virtual int64_t num_columns() const = 0;  // k, the input features
  virtual DType dtype() const = 0;          // kBF16 (blocks and FP8 too), kF32, or kI8 for kInt8
  virtual int64_t size_bytes() const = 0;   // memory it holds beside the original
  /// Whether products read the memory of the parts that it was packed from.
  virtual bool reads_parts() const { return false; }

  /// Bytes of the numbers that a product has to read, without padding.
  virtual int64_t value_bytes() const {
    const int64_t scales = dtype() == DType::kI8 ? num_rows() * int64_t{sizeof(float)} : 0;
    return num_rows() * num_columns() * element_bytes(dtype()) + scales;
  }
};

/// The longest row of an int8 product: its sum fits into 32 bits.
inline constexpr int64_t kMaxInt8Columns = INT32_MAX / (127 * 127);

/// out[m, n] = sum over k of a[m, k] * weight[n, k], f32 accumulation.
///
/// With an int8 weight, both sides are rounded to grids (kernels/int8_grid.h): the weight's rows
/// when they are packed, the rows of `a` here, each by its own largest magnitude.
///   out[m, n] = f32(sum over k of qa[m, k] * qw[n, k]) * scale_a[m] * scale_w[n]
/// multiplied from left to right in f32. The sum is of integers and exact, so every backend gives
/// the same bits. A row of `a` or of the weight that holds NaN or infinity gives NaN throughout.
///
/// A weight that was packed from blocks or from FP8 (Backend::pack_blocks, pack_fp8) is the bf16
/// weight of their numbers, each rounded to bf16: the result has that weight's bits, wherever the
/// backend multiplies both by itself.
///
/// A row of `out` depends on its own row of `a` alone, bit for bit: the same token gives the same
/// logits in any batch and any chunk. A backend whose library breaks that must not use it.
struct MatmulParams {
  ConstTensorView a;                     // [num_rows_m, k] f32 with an f32 weight, else bf16
  const PackedWeight* weight = nullptr;  // [n, k]; k <= kMaxInt8Columns if it is int8
  TensorView out;                        // [num_rows_m, n] f32, no alias
};

}  // namespace quire
