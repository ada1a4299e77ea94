#include "kernels/cpu/matmul.h"

#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/block_weight.h"
#include "kernels/cpu/int8_weight.h"
#include "kernels/cpu/onednn_matmul.h"
#include "kernels/cpu/panel_dot.h"
#include "kernels/cpu/panel_weight.h"

namespace quire::cpu {

MatmulEngine::MatmulEngine() : onednn_(std::make_unique<OneDnnProducts>()) {}

MatmulEngine::~MatmulEngine() = default;

std::unique_ptr<PackedWeight> MatmulEngine::pack(std::span<const ConstTensorView> parts,
                                                 WeightFormat format) {
  if (format == WeightFormat::kInt8) {
    return panel_dot::has_int8() ? make_int8_panels(parts) : make_int8_rows(parts);
  }
  if (parts.front().dtype == DType::kBF16 && panel_dot::has_bf16()) return make_bf16_panels(parts);
  return onednn_->pack(parts);
}

std::unique_ptr<PackedWeight> MatmulEngine::pack_blocks(std::span<const BlockMatrix> parts) {
  return make_block_panels(parts);
}

void MatmulEngine::run(const MatmulParams& params) {
  const auto* weight = dynamic_cast<const CpuWeight*>(params.weight);
  QUIRE_CHECK(weight != nullptr) << "matmul: a weight packed by another backend";
  QUIRE_CHECK(params.a.is_contiguous() && params.out.is_contiguous())
      << "matmul: a and out must be contiguous";
  const int64_t num_rows = params.a.shape[0];
  for (int64_t row = 0; row < num_rows; row += kMaxRowsAtOnce) {
    const int64_t count = std::min(num_rows - row, kMaxRowsAtOnce);
    weight->multiply(params.a.rows(row, count), params.out.rows(row, count), scratch_);
  }
}

bool MatmulEngine::has_own_bf16() { return panel_dot::has_bf16(); }

std::string MatmulEngine::description() const {
  if (!has_own_bf16()) return "oneDNN f32";
  return amx::is_available() ? "AMX" : "bf16 dots";
}

}  // namespace quire::cpu
