#include "kernels/cpu/int8_weight.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/int8_rows.h"
#include "kernels/cpu/parallel.h"

namespace quire::cpu {
namespace {

/// Rows of the weight that stay in the cache while the rows of `a` pass by.
constexpr int64_t kRowsPerItem = 8;

class Int8Weight final : public CpuWeight {
 public:
  Int8Weight(std::span<const ConstTensorView> parts, int64_t num_rows)
      : num_rows_(num_rows),
        num_columns_(parts.front().shape[1]),
        values_(allocate_host_memory(static_cast<size_t>(num_rows * num_columns_))),
        scales_(static_cast<size_t>(num_rows)) {
    int64_t first = 0;
    for (const ConstTensorView& part : parts) {
      parallel_for(part.shape[0], kRowsPerItem, [&](int64_t row) {
        const BFloat16* from = part.data_as<BFloat16>() + row * num_columns_;
        scales_[static_cast<size_t>(first + row)] =
            quantise_row(from, num_columns_, values(first + row)).scale;
      });
      first += part.shape[0];
    }
  }
  int64_t num_rows() const override { return num_rows_; }
  int64_t num_columns() const override { return num_columns_; }
  DType dtype() const override { return DType::kI8; }
  int64_t size_bytes() const override { return static_cast<int64_t>(values_->size_bytes()); }

  void multiply(const ConstTensorView& a, const TensorView& out,
                MatmulScratch& scratch) const override {
    quantise_rows(a, num_columns_, scratch);
    const int64_t num_items = (num_rows_ + kRowsPerItem - 1) / kRowsPerItem;
    parallel_for(num_items, 1, [&](int64_t item) {
      const int64_t begin = item * kRowsPerItem, end = std::min(begin + kRowsPerItem, num_rows_);
      for (int64_t m = 0; m < a.shape[0]; ++m) {
        const int8_t* row = scratch.values.data() + m * num_columns_;
        const float scale = scratch.scales[static_cast<size_t>(m)];
        for (int64_t n = begin; n < end; ++n) {
          const auto sum = static_cast<float>(dot_int8(row, values(n), num_columns_));
          out.data_as<float>()[m * num_rows_ + n] = sum * scale * scales_[static_cast<size_t>(n)];
        }
      }
    });
  }

 private:
  int8_t* values(int64_t row) const {
    return static_cast<int8_t*>(values_->data()) + row * num_columns_;
  }

  int64_t num_rows_, num_columns_;
  std::unique_ptr<DeviceBuffer> values_;  // [num_rows, num_columns] int8
  std::vector<float> scales_;             // [num_rows]
};

}  // namespace

std::unique_ptr<CpuWeight> make_int8_rows(std::span<const ConstTensorView> parts) {
  int64_t num_rows = 0;
  for (const ConstTensorView& part : parts) num_rows += part.shape[0];
  return std::make_unique<Int8Weight>(parts, num_rows);
}

}  // namespace quire::cpu
