#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernels/cuda/device_stream.h"
#include "kernels/cuda/lt_products.h"
#include "kernels/ops/matmul.h"
#include "kernels/quant/fp8_matrix.h"

namespace quire::cuda {

/// Packs weights into device memory and multiplies with them: bf16 by cuBLASLt where it is there
/// and keeps rows independent, everything else by the kernels of matmul_product.cu,
/// int8_product.cu and fp8_product.cu. Which of them depends on the weight alone, never on the
/// number of rows. Engine thread only.
class MatmulEngine {
 public:
  explicit MatmulEngine(DeviceStream& device);

  /// "cuBLASLt (4 of 4 shapes of weights)" or "own products"; of the weights packed so far.
  std::string description() const;
  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts, WeightFormat format);
  /// Null if a scale is none of is_fp8_scale's, or scales change within a step of the products.
  std::unique_ptr<PackedWeight> pack_fp8(std::span<const Fp8Matrix> parts);
  void run(const MatmulParams& params);

 private:
  DeviceStream& device_;
  std::unique_ptr<LtProducts> lt_;
};

}  // namespace quire::cuda
