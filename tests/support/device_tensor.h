#pragma once

#include <algorithm>
#include <concepts>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/backend.h"

namespace quire::test {

/// What no op may read, and no op may leave in a result.
template <class T>
constexpr T poison() {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16{0x7FFF};
  } else if constexpr (std::is_floating_point_v<T>) {
    return std::numeric_limits<T>::quiet_NaN();
  } else {
    return std::numeric_limits<T>::min();
  }
}

/// A tensor in a backend's memory whose rows (along axis 0) may lie apart, with poison before,
/// between and after them. `download` fails where an op wrote into that poison.
template <class T>
class DeviceTensor {
 public:
  DeviceTensor(Backend& backend, const std::vector<T>& values, std::initializer_list<int64_t> shape,
               int64_t row_padding = 0)
      : backend_(backend), view_(make_view(static_cast<T*>(nullptr), shape)) {
    QUIRE_CHECK(static_cast<int64_t>(values.size()) == view_.num_elements())
        << values.size() << " values for " << view_.num_elements() << " elements";
    num_rows_ = view_.shape[0];
    row_elements_ = view_.stride[0];
    pitch_ = row_elements_ + row_padding;
    view_.stride[0] = pitch_;
    std::vector<T> memory(static_cast<size_t>(2 * kGuard + num_rows_ * pitch_), poison<T>());
    for (int64_t row = 0; row < num_rows_; ++row) {
      std::copy_n(values.begin() + row * row_elements_, row_elements_,
                  memory.begin() + kGuard + row * pitch_);
    }
    buffer_ = backend.allocate(memory.size() * sizeof(T));
    backend.upload(std::as_bytes(std::span(memory)), buffer_->data());
    view_.data = static_cast<T*>(buffer_->data()) + kGuard;
  }

  /// An output: poison everywhere. (A template, so that a braced list is never its padding.)
  DeviceTensor(Backend& backend, std::initializer_list<int64_t> shape)
      : DeviceTensor(backend, all_poison(shape), shape) {}
  template <std::integral Padding>
  DeviceTensor(Backend& backend, std::initializer_list<int64_t> shape, Padding row_padding)
      : DeviceTensor(backend, all_poison(shape), shape, row_padding) {}

  TensorView view() const { return view_; }
  operator TensorView() const { return view_; }
  operator ConstTensorView() const { return view_; }

  std::vector<T> download() const {
    std::vector<T> memory(static_cast<size_t>(2 * kGuard + num_rows_ * pitch_));
    backend_.synchronize();
    backend_.download(buffer_->data(), std::as_writable_bytes(std::span(memory)));
    std::vector<T> values;
    for (int64_t i = 0; i < static_cast<int64_t>(memory.size()); ++i) {
      const int64_t offset = i - kGuard;
      const bool inside =
          offset >= 0 && offset < num_rows_ * pitch_ && offset % pitch_ < row_elements_;
      const T& value = memory[static_cast<size_t>(i)];
      if (inside) {
        values.push_back(value);
      } else {
        QUIRE_CHECK(is_poison(value)) << "an op wrote " << offset << " elements from the tensor's "
                                      << "start, outside of its rows";
      }
    }
    return values;
  }

  static bool is_poison(const T& value) {
    const T expected = poison<T>();
    return std::memcmp(&value, &expected, sizeof(T)) == 0;
  }

 private:
  static constexpr int64_t kGuard = 64;

  static std::vector<T> all_poison(std::initializer_list<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return std::vector<T>(static_cast<size_t>(count), poison<T>());
  }

  Backend& backend_;
  TensorView view_;
  int64_t num_rows_ = 0, row_elements_ = 0, pitch_ = 0;
  std::unique_ptr<DeviceBuffer> buffer_;
};

}  // namespace quire::test
