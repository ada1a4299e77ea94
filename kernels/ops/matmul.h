#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace quire {

/// A weight matrix in the layout its backend likes best, made once by Backend::pack_weight.
/// Immutable, shared by all threads. A backend accepts only what it packed itself.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual int64_t num_rows() const = 0;     // n, the output features
  virtual int64_t num_columns() const = 0;  // k, the input features
  virtual int64_t size_bytes() const = 0;   // memory it holds beside the original
};

/// out[m, n] = sum over k of a[m, k] * weight[n, k], f32 accumulation.
///
/// A row of `out` depends on its own row of `a` alone, bit for bit: the same token gives the same
/// logits in any batch and any chunk. A backend whose library breaks that must not use it.
struct MatmulParams {
  ConstTensorView a;  // [num_rows_m, k] bf16 with a bf16 weight, f32 with an f32 weight
  const PackedWeight* weight = nullptr;  // [n, k]
  TensorView out;                        // [num_rows_m, n] f32, no alias
};

}  // namespace quire
