#include "kernels/ops/matmul.h"

#include <vector>

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
  int64_t size_bytes() const override { return 0; }
  const std::vector<ConstTensorView>& parts() const { return parts_; }

 private:
  std::vector<ConstTensorView> parts_;
  int64_t num_rows_ = 0;
};

}  // namespace

std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts) {
  return std::make_unique<ViewedWeight>(parts);
}

void matmul(const MatmulParams& params) {
  const auto* weight = dynamic_cast<const ViewedWeight*>(params.weight);
  QUIRE_CHECK(weight != nullptr) << "a weight packed by another backend";
  const int64_t num_rows_m = params.a.shape[0], k = params.a.shape[1];
  int64_t first_column = 0;
  for (const ConstTensorView& part : weight->parts()) {
    QUIRE_CHECK(part.dtype == params.a.dtype)
        << "weight " << dtype_name(part.dtype) << ", a " << dtype_name(params.a.dtype);
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

}  // namespace quire::reference
