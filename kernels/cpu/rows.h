#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/simd_rows.h"
#include "kernels/tensor.h"

namespace quire::cpu {

/// Widens `count` elements of a bf16 or f32 row.
inline void read_row(const void* in, DType dtype, int64_t count, float* out) {
  if (dtype == DType::kBF16) {
    to_float(static_cast<const BFloat16*>(in), count, out);
  } else {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
  }
}

/// Stores `count` floats as bf16 or f32.
inline void write_row(const float* in, int64_t count, DType dtype, void* out) {
  if (dtype == DType::kBF16) {
    to_bfloat16(in, count, static_cast<BFloat16*>(out));
  } else {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
  }
}

/// Address of element [i, j, 0] or [i, 0] of a view of any dtype.
template <class Ptr, class... Index>
auto address(const BasicTensorView<Ptr>& view, Index... index) {
  using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Ptr>>, const char, char>;
  int64_t offset = 0;
  size_t axis = 0;
  ((offset += static_cast<int64_t>(index) * view.stride[axis++]), ...);
  return static_cast<Byte*>(view.data) + offset * element_bytes(view.dtype);
}

}  // namespace quire::cpu
