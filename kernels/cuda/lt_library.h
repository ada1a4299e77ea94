#pragma once

#include <cublasLt.h>

#include <memory>

namespace quire::cuda {

/// The entry points of cuBLASLt that are used, found in the shared library at run time. Linking it
/// would load half a gigabyte into every process, with or without a GPU.
class LtLibrary {
 public:
  /// nullptr if the library or one of its symbols is missing.
  static std::unique_ptr<LtLibrary> open();
  LtLibrary(const LtLibrary&) = delete;
  LtLibrary& operator=(const LtLibrary&) = delete;
  ~LtLibrary();

  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) algo_get = nullptr;

 private:
  LtLibrary() = default;
  template <class Function>
  bool find(const char* symbol, Function& function);

  void* library_ = nullptr;
};

}  // namespace quire::cuda
