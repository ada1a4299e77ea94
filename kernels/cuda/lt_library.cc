#include "kernels/cuda/lt_library.h"

#include <dlfcn.h>

#include <string>

namespace quire::cuda {

template <class Function>
bool LtLibrary::find(const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library_, symbol));
  return function != nullptr;
}

std::unique_ptr<LtLibrary> LtLibrary::open() {
  std::unique_ptr<LtLibrary> lt(new LtLibrary);
  const std::string soname = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  for (const std::string& name : {soname, "/usr/local/cuda/lib64/" + soname}) {
    // It stays: to unload it while the context lives is more than it is made for, and slow.
    constexpr int kFlags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    if (lt->library_ == nullptr) lt->library_ = dlopen(name.c_str(), kFlags);
  }
  if (lt->library_ == nullptr) return nullptr;
  const bool complete = lt->find("cublasLtCreate", lt->create) &&
                        lt->find("cublasLtDestroy", lt->destroy) &&
                        lt->find("cublasLtMatmul", lt->matmul) &&
                        lt->find("cublasLtMatmulAlgoGetHeuristic", lt->heuristic) &&
                        lt->find("cublasLtMatmulAlgoCheck", lt->algo_check) &&
                        lt->find("cublasLtMatmulDescCreate", lt->desc_create) &&
                        lt->find("cublasLtMatmulDescDestroy", lt->desc_destroy) &&
                        lt->find("cublasLtMatmulDescSetAttribute", lt->desc_set) &&
                        lt->find("cublasLtMatrixLayoutCreate", lt->layout_create) &&
                        lt->find("cublasLtMatrixLayoutDestroy", lt->layout_destroy) &&
                        lt->find("cublasLtMatmulPreferenceCreate", lt->preference_create) &&
                        lt->find("cublasLtMatmulPreferenceDestroy", lt->preference_destroy) &&
                        lt->find("cublasLtMatmulPreferenceSetAttribute", lt->preference_set) &&
                        lt->find("cublasLtMatmulAlgoConfigGetAttribute", lt->algo_get);
  if (!complete) return nullptr;
  return lt;
}

LtLibrary::~LtLibrary() {
  if (library_ != nullptr) dlclose(library_);
}

}  // namespace quire::cuda
