#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/device_stream.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// bf16 products by cuBLASLt, held to the contract of matmul: one algorithm per shape of a weight,
/// whatever the number of rows, none that splits k, and before its first use a trial on the device
/// that every row comes out with the same bits among few rows and among many. What fails the trial
/// is left to the kernel of this folder. Engine thread only.
class LtProducts {
 public:
  /// Of the scratch memory, from its beginning on, what a product may use.
  static constexpr size_t kMaxWorkspaceBytes = size_t{32} << 20;

  virtual ~LtProducts() = default;

  /// Whether weights of this shape are multiplied here; asks the library and runs the trial the
  /// first time. Throws DeviceError.
  virtual bool accepts(int64_t n, int64_t k, const OpStream& stream) = 0;

  /// out = a * weight^T. REQUIRES: accepts(n, k).
  virtual void multiply(const ConstTensorView& a, const ConstTensorView& weight,
                        const TensorView& out, const OpStream& stream) = 0;

  /// Loads the library, which is large, when a GPU is in use and not before. nullptr if it is not
  /// installed.
  static std::unique_ptr<LtProducts> open();
};

}  // namespace quire::cuda
