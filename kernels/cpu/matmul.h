#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops/matmul.h"
#include "kernels/quant/block_matrix.h"

namespace quire::cpu {

class OneDnnProducts;

/// Memory that products need for their input, reused from one to the next.
struct MatmulScratch {
  std::vector<uint32_t> words;
  std::vector<int8_t> values;
  std::vector<int32_t> sums;
  std::vector<float> scales;
};

/// A weight that knows how to multiply. Which kind is best depends on the CPU and the format.
class CpuWeight : public PackedWeight {
 public:
  /// REQUIRES: a contiguous `a` of at most kMaxRowsAtOnce rows, and as MatmulParams says.
  virtual void multiply(const ConstTensorView& a, const TensorView& out,
                        MatmulScratch& scratch) const = 0;
};

/// Longer products run in pieces, which bounds the scratch.
inline constexpr int64_t kMaxRowsAtOnce = 1008;

/// Matrix products. bf16 with AVX512_BF16 or AMX and int8 with AVX512_VNNI or AMX run in own loops
/// over packed panels (panel_weight.h), blocks of GGUF likewise (block_weight.h), other int8 row by
/// row (int8_weight.h), the rest in oneDNN.
class MatmulEngine {
 public:
  MatmulEngine();
  ~MatmulEngine();
  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts, WeightFormat format);
  /// REQUIRES: has_own_bf16().
  std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts);
  void run(const MatmulParams& params);
  /// Whether products with bf16 weights run in own loops.
  static bool has_own_bf16();
  /// Of products with bf16 weights, for the banner.
  std::string description() const;

 private:
  std::unique_ptr<OneDnnProducts> onednn_;
  MatmulScratch scratch_;
};

}  // namespace quire::cpu
