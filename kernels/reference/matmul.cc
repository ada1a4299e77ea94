#include "kernels/ops/matmul.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "kernels/int8_grid.h"
#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {
namespace {

class ViewedWeight final : public PackedWeight {
 public:
  explicit ViewedWeight(std::span<const ConstTensorView> parts)
      : parts_(parts.begin(), parts.end()) {
    for (const ConstTensorView& part : parts_) num_rows_ += part.shape[0];
  }
  int64_t num_rows() const override { return num_rows_; }
  int64_t num_columns() const override { return parts_.front().shape[1]; }
  DType dtype() const override { return parts_.front().dtype; }
  int64_t size_bytes() const override { return 0; }
  bool reads_parts() const override { return true; }
  const std::vector<ConstTensorView>& parts() const { return parts_; }

 private:
  std::vector<ConstTensorView> parts_;
  int64_t num_rows_ = 0;
};

/// Numbers of its own: those of blocks, as bf16.
class WidenedWeight final : public PackedWeight {
 public:
  explicit WidenedWeight(std::span<const BlockMatrix> parts)
      : num_columns_(parts.front().num_columns) {
    std::vector<float> row(static_cast<size_t>(num_columns_));
    for (const BlockMatrix& part : parts) {
      for (int64_t i = 0; i < part.num_rows; ++i) {
        widen_blocks(part.format, part.row(i), row);
        std::transform(row.begin(), row.end(), std::back_inserter(values_), to_bfloat16);
      }
      value_bytes_ += part.num_rows * block_row_bytes(part.format, num_columns_);
    }
  }
  int64_t num_rows() const override { return view().shape[0]; }
  int64_t num_columns() const override { return num_columns_; }
  DType dtype() const override { return DType::kBF16; }
  int64_t size_bytes() const override { return view().num_elements() * int64_t{sizeof(BFloat16)}; }
  int64_t value_bytes() const override { return value_bytes_; }
  ConstTensorView view() const {
    return make_view(values_.data(),
                     {static_cast<int64_t>(values_.size()) / num_columns_, num_columns_});
  }

 private:
  int64_t num_columns_;
  int64_t value_bytes_ = 0;
  std::vector<BFloat16> values_;
};

/// Rows of a matrix on their grids.
struct Int8Rows {
  std::vector<int8_t> values;  // [rows, k]
  std::vector<float> scales;   // [rows]

  void append(const ConstTensorView& matrix) {
    for (int64_t row = 0; row < matrix.shape[0]; ++row) {
      float largest = 0;
      for (int64_t i = 0; i < matrix.shape[1]; ++i) {
        const float magnitude = std::abs(load(matrix, row, i));
        if (!(magnitude <= largest)) largest = magnitude;  // a NaN stays
        if (std::isnan(largest)) break;
      }
      const Int8Grid grid = int8_grid(largest);
      for (int64_t i = 0; i < matrix.shape[1]; ++i) {
        const float steps = grid.inverse == 0 ? 0 : load(matrix, row, i) * grid.inverse;
        values.push_back(static_cast<int8_t>(std::nearbyint(steps)));
      }
      scales.push_back(grid.scale);
    }
  }
};

class Int8Weight final : public PackedWeight {
 public:
  explicit Int8Weight(std::span<const ConstTensorView> parts)
      : num_columns_(parts.front().shape[1]) {
    for (const ConstTensorView& part : parts) rows_.append(part);
  }
  int64_t num_rows() const override { return static_cast<int64_t>(rows_.scales.size()); }
  int64_t num_columns() const override { return num_columns_; }
  DType dtype() const override { return DType::kI8; }
  int64_t size_bytes() const override { return value_bytes(); }
  const Int8Rows& rows() const { return rows_; }

 private:
  int64_t num_columns_;
  Int8Rows rows_;
};

void matmul_int8(const MatmulParams& params, const Int8Rows& weight) {
  const int64_t num_rows_m = params.a.shape[0], k = params.a.shape[1];
  const auto num_rows_n = static_cast<int64_t>(weight.scales.size());
  Int8Rows a;
  a.append(params.a);
#pragma omp parallel for collapse(2)
  for (int64_t m = 0; m < num_rows_m; ++m) {
    for (int64_t n = 0; n < num_rows_n; ++n) {
      int32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        sum += int32_t{a.values[static_cast<size_t>(m * k + i)]} *
               weight.values[static_cast<size_t>(n * k + i)];
      }
      const float scaled = static_cast<float>(sum) * a.scales[static_cast<size_t>(m)];
      store(params.out, scaled * weight.scales[static_cast<size_t>(n)], m, n);
    }
  }
}

void matmul_viewed(const MatmulParams& params, std::span<const ConstTensorView> parts) {
  const int64_t num_rows_m = params.a.shape[0], k = params.a.shape[1];
  int64_t first_column = 0;
  for (const ConstTensorView& part : parts) {
#pragma omp parallel for collapse(2)
    for (int64_t m = 0; m < num_rows_m; ++m) {
      for (int64_t n = 0; n < part.shape[0]; ++n) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += static_cast<double>(load(params.a, m, i)) * static_cast<double>(load(part, n, i));
        }
        store(params.out, static_cast<float>(sum), m, first_column + n);
      }
    }
    first_column += part.shape[0];
  }
}

}  // namespace

std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts,
                                          WeightFormat format) {
  if (format == WeightFormat::kInt8) return std::make_unique<Int8Weight>(parts);
  return std::make_unique<ViewedWeight>(parts);
}

std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts) {
  return std::make_unique<WidenedWeight>(parts);
}

void matmul(const MatmulParams& params) {
  if (const auto* widened = dynamic_cast<const WidenedWeight*>(params.weight)) {
    const ConstTensorView view = widened->view();
    return matmul_viewed(params, {&view, 1});
  }
  if (const auto* int8 = dynamic_cast<const Int8Weight*>(params.weight)) {
    return matmul_int8(params, int8->rows());
  }
  const auto* weight = dynamic_cast<const ViewedWeight*>(params.weight);
  QUIRE_CHECK(weight != nullptr) << "a weight packed by another backend";
  matmul_viewed(params, weight->parts());
}

}  // namespace quire::reference
