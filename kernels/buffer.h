#pragma once

#include <cstddef>
#include <memory>

#include "kernels/tensor.h"

namespace quire {

/// Owned memory of one backend, 64-byte aligned (CPU: huge pages where the system gives them).
/// Freed when destroyed; must not outlive the backend that allocated it.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual void* data() = 0;
  virtual size_t size_bytes() const = 0;
};

/// Scratch memory of one step: a bump allocator over one buffer that is sized once. `take` never
/// allocates from the system; running out is a contract violation, because the model states its
/// need beforehand. Not thread-safe; the engine thread owns it.
class Workspace {
 public:
  explicit Workspace(std::unique_ptr<DeviceBuffer> buffer) : buffer_(std::move(buffer)) {}

  /// Uninitialised, 64-byte aligned, valid until the next reset().
  template <class T>
  TensorView take(std::initializer_list<int64_t> shape) {
    return take(dtype_of<T>(), shape);
  }
  TensorView take(DType dtype, std::initializer_list<int64_t> shape) {
    TensorView view = make_view(static_cast<void*>(nullptr), dtype, shape);
    view.data = take_bytes(static_cast<size_t>(view.num_elements() * element_bytes(dtype)));
    return view;
  }

  /// Returns the mark to pass to `rewind`, which frees everything taken since.
  size_t mark() const { return used_bytes_; }
  void rewind(size_t mark) { used_bytes_ = mark; }
  void reset() { used_bytes_ = 0; }

  size_t capacity_bytes() const { return buffer_ ? buffer_->size_bytes() : 0; }
  size_t peak_bytes() const { return peak_bytes_; }

  /// What one `take` of this many bytes consumes, alignment included.
  static constexpr size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  void* take_bytes(size_t bytes) {
    const size_t need = padded(bytes);
    QUIRE_CHECK(used_bytes_ + need <= capacity_bytes())
        << "workspace: need " << need << " bytes after " << used_bytes_ << " of "
        << capacity_bytes();
    void* p = static_cast<char*>(buffer_->data()) + used_bytes_;
    used_bytes_ += need;
    peak_bytes_ = used_bytes_ > peak_bytes_ ? used_bytes_ : peak_bytes_;
    return p;
  }

  std::unique_ptr<DeviceBuffer> buffer_;
  size_t used_bytes_ = 0;
  size_t peak_bytes_ = 0;
};

}  // namespace quire
