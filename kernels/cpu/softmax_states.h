#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/scratch.h"

namespace quire::cpu {

/// Softmax states of rows, in memory that is kept from one op to the next.
class SoftmaxStates {
 public:
  SoftmaxRows reserve(int64_t num_rows, int64_t head_dim) {
    const auto count = static_cast<size_t>(num_rows);
    return {max_.reserve(count), sum_.reserve(count),
            out_.reserve(count * static_cast<size_t>(padded_dim(head_dim)))};
  }

 private:
  Scratch<float> max_, sum_, out_;
};

/// What the state of one row takes.
constexpr int64_t softmax_row_bytes(int64_t head_dim) {
  return (padded_dim(head_dim) + 2) * static_cast<int64_t>(sizeof(float));
}

/// The rows from `row` on.
inline SoftmaxRows from_row(const SoftmaxRows& rows, int64_t row, int64_t head_dim) {
  return {rows.max + row, rows.sum + row, rows.out + row * padded_dim(head_dim)};
}

}  // namespace quire::cpu
