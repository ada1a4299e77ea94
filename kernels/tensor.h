#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/check.h"

namespace quire {

enum class DType : uint8_t { kF32, kBF16, kF64, kI8, kI32, kI64 };

constexpr int64_t element_bytes(DType dtype) {
  switch (dtype) {
    case DType::kI8:
      return 1;
    case DType::kBF16:
      return 2;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF64:
    case DType::kI64:
      return 8;
  }
  return 0;
}

constexpr std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF64:
      return "f64";
    case DType::kI8:
      return "i8";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
  }
  return "?";
}

template <class T>
constexpr DType dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, float>) return DType::kF32;
  if constexpr (std::is_same_v<U, BFloat16>) return DType::kBF16;
  if constexpr (std::is_same_v<U, double>) return DType::kF64;
  if constexpr (std::is_same_v<U, int8_t>) return DType::kI8;
  if constexpr (std::is_same_v<U, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<U, int64_t>) return DType::kI64;
}

inline constexpr int kMaxRank = 4;

/// A non-owning, trivially copyable description of memory that a backend can read (Ptr = const
/// void*) or write (Ptr = void*). Strides count elements, not bytes. A view outlives nothing: the
/// buffer behind it must stay alive for as long as the view is used. Thread-safe as any POD.
template <class Ptr>
struct BasicTensorView {
  Ptr data = nullptr;
  DType dtype = DType::kF32;
  int8_t rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> stride{};

  int64_t num_elements() const {
    int64_t count = 1;
    for (int axis = 0; axis < rank; ++axis) count *= shape[static_cast<size_t>(axis)];
    return count;
  }

  bool is_contiguous() const {
    int64_t expected = 1;
    for (int axis = rank - 1; axis >= 0; --axis) {
      const auto a = static_cast<size_t>(axis);
      if (shape[a] != 1 && stride[a] != expected) return false;
      expected *= shape[a];
    }
    return true;
  }

  /// Typed base pointer. REQUIRES: T's dtype is this view's dtype.
  template <class T>
  auto data_as() const {
    QUIRE_CHECK(dtype_of<T>() == dtype)
        << "expected " << dtype_name(dtype_of<T>()) << ", actual " << dtype_name(dtype);
    using Target = std::conditional_t<std::is_const_v<std::remove_pointer_t<Ptr>>, const T*, T*>;
    return static_cast<Target>(data);
  }

  /// Rows [first, first + count) along axis 0. REQUIRES: rank >= 1 and the range is inside.
  BasicTensorView rows(int64_t first, int64_t count) const {
    QUIRE_CHECK(rank >= 1 && first >= 0 && count >= 0 && first + count <= shape[0])
        << "rows [" << first << ", +" << count << ") of " << shape[0];
    BasicTensorView view = *this;
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Ptr>>, const char, char>;
    view.data = static_cast<Byte*>(data) + first * stride[0] * element_bytes(dtype);
    view.shape[0] = count;
    return view;
  }

  /// A writable view converts to a read-only one.
  template <class Target>
  requires(std::is_same_v<Target, const void*> && !std::is_same_v<Ptr, const void*>)
  operator BasicTensorView<Target>() const {
    return {data, dtype, rank, shape, stride};
  }
};

using TensorView = BasicTensorView<void*>;
using ConstTensorView = BasicTensorView<const void*>;

/// A contiguous view of `data`, void* or const void*, with the given shape.
template <class Ptr>
BasicTensorView<Ptr> make_view(Ptr data, DType dtype, std::initializer_list<int64_t> shape) {
  BasicTensorView<Ptr> view;
  QUIRE_CHECK(shape.size() <= kMaxRank) << "rank " << shape.size();
  view.data = data;
  view.dtype = dtype;
  view.rank = static_cast<int8_t>(shape.size());
  size_t axis = 0;
  for (const int64_t extent : shape) view.shape[axis++] = extent;
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    view.stride[i] = stride;
    stride *= view.shape[i];
  }
  return view;
}

/// The same, T's dtype deduced from the pointer.
template <class T>
auto make_view(T* data, std::initializer_list<int64_t> shape) {
  using Ptr = std::conditional_t<std::is_const_v<T>, const void*, void*>;
  return make_view(static_cast<Ptr>(data), dtype_of<T>(), shape);
}

}  // namespace quire
