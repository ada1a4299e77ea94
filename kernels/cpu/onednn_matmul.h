#pragma once

#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <tuple>

#include "kernels/cpu/matmul.h"

namespace quire::cpu {

/// Matrix products through oneDNN: of f32 weights, and of bf16 weights where the CPU has no dot
/// products of bf16: as bf16 with AVX-512, else widened to f32. Weights are packed once, in the
/// layout that oneDNN prefers for long prefills and takes for any number of rows. Weights made here
/// must not outlive it.
///
/// A row of the result must not depend on the number of rows. oneDNN's brgemm kernels sum over k in
/// the same order for every number of rows (tests/kernels/matmul_test.cc holds them to it).
class OneDnnProducts {
 public:
  OneDnnProducts();
  std::unique_ptr<CpuWeight> pack(std::span<const ConstTensorView> parts);
  bool has_bf16() const { return has_bf16_; }

 private:
  class Weight;
  using Key = std::tuple<int64_t, int64_t, int64_t, int>;  // rows, n, k, dtype

  const dnnl::matmul& primitive(int64_t num_rows, const Weight& weight);
  void run(const ConstTensorView& a, const Weight& weight, const TensorView& out);
  void run_rows(const ConstTensorView& a, const Weight& weight, const TensorView& out);

  dnnl::engine engine_;
  dnnl::stream stream_;
  bool has_bf16_;
  std::map<Key, dnnl::matmul> primitives_;
};

}  // namespace quire::cpu
