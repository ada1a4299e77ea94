#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernels/cuda/device_stream.h"
#include "kernels/cuda/lt_products.h"
#include "kernels/ops/matmul.h"

namespace quire::cuda {

/// Packs weights into device memory and multiplies with them: bf16 by cuBLASLt where it is there
/// and keeps rows independent, everything else by the kernels of matmul_product.cu and
/// int8_product.cu. Which of them depends on the weight alone, never on the number of rows. Engine
/// thread only.
class MatmulEngine {
 public:
  explicit MatmulEngine(DeviceStream& device);

  /// "cuBLASLt" or "own products".
  std::string description() const;
  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts, WeightFormat format);
  void run(const MatmulParams& params);

 private:
  DeviceStream& device_;
  std::unique_ptr<LtProducts> lt_;
};

}  // namespace quire::cuda
