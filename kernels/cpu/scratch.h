#pragma once

#include <cstddef>
#include <memory>

namespace quire::cpu {

/// Memory without a value until it is written, kept from one op to the next.
template <class T>
class Scratch {
 public:
  T* reserve(size_t count) {
    if (count > capacity_) {
      data_.reset();
      data_ = std::make_unique_for_overwrite<T[]>(count);
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<T[]> data_;
  size_t capacity_ = 0;
};

}  // namespace quire::cpu
