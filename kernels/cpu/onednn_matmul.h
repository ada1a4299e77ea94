#pragma once

#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <span>
#include <tuple>

#include "kernels/cpu/matmul.h"

namespace quire::cpu {

/// Matrix products through oneDNN, in f32: of f32 weights, and of bf16 weights, widened, where the
/// CPU has no dot products of bf16. Weights are packed once, in the layout that oneDNN prefers for
/// long prefills and takes for any number of rows. Weights made here must not outlive it.
///
/// A row of the result must not depend on the number of rows. oneDNN's brgemm kernels of f32, which
/// AVX-512 has, sum over k in the same order for every number (tests/kernels/matmul_test.cc holds
/// them to it). Its other kernels do not, neither those of f32 for AVX2 nor those of bf16 without
/// AVX512_BF16: with AVX2 all products have the same number of rows.
class OneDnnProducts {
 public:
  OneDnnProducts();
  std::unique_ptr<CpuWeight> pack(std::span<const ConstTensorView> parts);

 private:
  class Weight;
  using Key = std::tuple<int64_t, int64_t, int64_t>;  // rows, n, k

  const dnnl::matmul& primitive(int64_t num_rows, const Weight& weight);
  void run(const ConstTensorView& a, const Weight& weight, const TensorView& out);
  void run_rows(const ConstTensorView& a, const Weight& weight, const TensorView& out);

  dnnl::engine engine_;
  dnnl::stream stream_;
  bool has_brgemm_;
  std::map<Key, dnnl::matmul> primitives_;
};

}  // namespace quire::cpu
