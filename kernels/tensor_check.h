#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kernels/tensor.h"

namespace quire {

/// A symbolic extent: bound by the first tensor that mentions it, compared by all others.
///   Extent tokens("num_tokens"), width("width");
class Extent {
 public:
  explicit Extent(const char* name) : name_(name) {}
  Extent(int64_t value) : name_("fixed"), value_(value) {}

  const char* name() const { return name_; }
  bool is_bound() const { return value_ >= 0; }
  int64_t value() const { return value_; }
  void bind(int64_t value) { value_ = value; }

 private:
  const char* name_;
  int64_t value_ = -1;
};

/// Verifies tensors against the shapes that a contract header states, at the op's door:
///   TensorCheck check("rms_norm");
///   check.tensor("x", params.x, {DType::kF32}, {&rows, &width});
/// Throws ContractError naming op, tensor, expected and actual. The last axis must be contiguous;
/// other axes may be strided unless `contiguous` is asked for.
class TensorCheck {
 public:
  explicit TensorCheck(const char* op) : op_(op) {}

  enum class Layout { kStrided, kContiguous };

  void tensor(const char* name, const ConstTensorView& view, std::initializer_list<DType> dtypes,
              std::initializer_list<Extent*> extents, Layout layout = Layout::kStrided) const {
    bool dtype_ok = false;
    for (const DType dtype : dtypes) dtype_ok = dtype_ok || dtype == view.dtype;
    bool shape_ok = view.rank == static_cast<int8_t>(extents.size());
    size_t axis = 0;
    for (Extent* extent : extents) {
      if (!shape_ok) break;
      if (!extent->is_bound()) extent->bind(view.shape[axis]);
      shape_ok = extent->value() == view.shape[axis];
      ++axis;
    }
    const bool empty = shape_ok && view.num_elements() == 0;
    const bool data_ok = view.data != nullptr || empty;
    if (dtype_ok && shape_ok && data_ok && (empty || is_laid_out(view, layout))) return;
    throw ContractError(std::string(op_) + ": " + name + ": expected " +
                        expected_text(dtypes, extents, layout) + ", actual " + actual_text(view));
  }

  /// A condition on values, with the same kind of message.
  void that(bool condition, const std::string& expected) const {
    if (!condition) throw ContractError(std::string(op_) + ": expected " + expected);
  }

 private:
  static bool is_laid_out(const ConstTensorView& view, Layout layout) {
    if (layout == Layout::kContiguous) return view.is_contiguous();
    const auto last = static_cast<size_t>(view.rank) - 1;
    return view.rank == 0 || view.shape[last] == 1 || view.stride[last] == 1;
  }

  static std::string expected_text(std::initializer_list<DType> dtypes,
                                   std::initializer_list<Extent*> extents, Layout layout) {
    std::string text;
    for (const DType dtype : dtypes) {
      text += (text.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    }
    text += " [";
    const char* separator = "";
    for (const Extent* extent : extents) {
      text += separator;
      text += extent->name();
      if (extent->is_bound()) text += "=" + std::to_string(extent->value());
      separator = ", ";
    }
    return text + (layout == Layout::kContiguous ? "] contiguous" : "]");
  }

  static std::string actual_text(const ConstTensorView& view) {
    std::string text(dtype_name(view.dtype));
    text += " [";
    for (int axis = 0; axis < view.rank; ++axis) {
      const auto a = static_cast<size_t>(axis);
      text +=
          (axis ? ", " : "") + std::to_string(view.shape[a]) + ":" + std::to_string(view.stride[a]);
    }
    return text + (view.data == nullptr ? "] without data" : "] (extent:stride)");
  }

  const char* op_;
};

}  // namespace quire
