#pragma once

#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <tuple>

#include "kernels/ops/matmul.h"

namespace quire::cpu {

/// Matrix products through oneDNN: bf16 weights where the CPU has AVX-512 (dot products in bf16
/// with AVX512_BF16), else the same weights widened to f32. Weights are packed once, in the layout
/// that oneDNN prefers for long prefills and takes for any number of rows.
///
/// A row of the result must not depend on the number of rows. oneDNN's brgemm kernels sum over k in
/// the same order for every number of rows (tests/kernels/matmul_test.cc holds them to it).
class MatmulEngine {
 public:
  MatmulEngine();
  ~MatmulEngine();
  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts);
  void run(const MatmulParams& params);
  bool has_bf16() const { return has_bf16_; }

 private:
  class Weight;
  using Key = std::tuple<int64_t, int64_t, int64_t, int>;  // rows, n, k, dtype

  const dnnl::matmul& primitive(int64_t num_rows, const Weight& weight);
  void run_rows(const ConstTensorView& a, const Weight& weight, const TensorView& out);

  dnnl::engine engine_;
  dnnl::stream stream_;
  bool has_bf16_;
  std::map<Key, dnnl::matmul> primitives_;
};

}  // namespace quire::cpu
