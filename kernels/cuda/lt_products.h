#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/device_stream.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// bf16 products by cuBLASLt, held to the contract of matmul: one algorithm per shape of a weight,
/// whatever the number of rows, none that splits k, and before its first use a trial on the device
/// that every row comes out with the same bits among few rows and among many, at any place. What
/// fails the trial is left to the kernel of this folder. Engine thread only.
class LtProducts {
 public:
  /// Of the scratch memory, from its beginning on, what a product may use.
  static constexpr size_t kMaxWorkspaceBytes = size_t{32} << 20;

  virtual ~LtProducts() = default;

  /// Whether weights of this shape are multiplied here; asks the library and runs the trial the
  /// first time. Throws DeviceError.
  virtual bool accepts(int64_t n, int64_t k, const OpStream& stream) = 0;

  /// Which shapes have passed and which have not, for people: "4 of 5 shapes of weights; not
  /// 128256 x 4096".
  virtual std::string description() const = 0;

  /// out = a * weight^T. REQUIRES: accepts(n, k), rows of `a` and `out` that begin at multiples of
  /// 16 bytes.
  virtual void multiply(const ConstTensorView& a, const ConstTensorView& weight,
                        const TensorView& out, const OpStream& stream) = 0;

  /// Loads the library, which is large, when a GPU is in use and not before. nullptr if it is not
  /// installed, or does
  /// not open.
  static std::unique_ptr<LtProducts> open();
};

}  // namespace quire::cuda
