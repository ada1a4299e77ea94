#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/tensor.h"

namespace quire {

/// One array inside PackedArrays: where it starts and how many elements it has.
template <class T>
struct PackedArray {
  size_t offset_bytes = 0;
  size_t num_elements = 0;
};

/// Arrays of different types laid out in one piece of host memory, each 64-byte aligned, so that
/// one upload carries them all and a device view is the device's base plus an offset. A step has a
/// dozen small arrays; a dozen small copies would cost a GPU more than the bytes do.
///
/// Use: clear, add every array, then write through `host`. Memory grows to the largest step seen
/// and stays. Not thread-safe.
class PackedArrays {
 public:
  void clear() { num_bytes_ = 0; }

  /// Uninitialised. Invalidates spans handed out before.
  template <class T>
  PackedArray<T> add(size_t num_elements) {
    const PackedArray<T> array{num_bytes_, num_elements};
    num_bytes_ += (num_elements * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (num_bytes_ > lines_.size() * kAlignment) {
      lines_.resize((num_bytes_ + num_bytes_ / 4 + kAlignment - 1) / kAlignment);
    }
    return array;
  }

  template <class T>
  std::span<T> host(PackedArray<T> array) {
    return {reinterpret_cast<T*>(base() + array.offset_bytes), array.num_elements};
  }

  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(lines_.data()), num_bytes_};
  }

  /// The array as it lies in a copy of bytes() that starts at `device_base`.
  template <class T>
  static ConstTensorView device_view(const void* device_base, PackedArray<T> array,
                                     std::initializer_list<int64_t> shape) {
    const auto* first = static_cast<const std::byte*>(device_base) + array.offset_bytes;
    const auto view = make_view(reinterpret_cast<const T*>(first), shape);
    QUIRE_CHECK(view.num_elements() == static_cast<int64_t>(array.num_elements))
        << "shape of " << view.num_elements() << " over " << array.num_elements << " elements";
    return view;
  }

 private:
  static constexpr size_t kAlignment = 64;
  struct alignas(kAlignment) Line {
    std::byte bytes[kAlignment];
  };

  std::byte* base() { return reinterpret_cast<std::byte*>(lines_.data()); }

  std::vector<Line> lines_;
  size_t num_bytes_ = 0;
};

}  // namespace quire
