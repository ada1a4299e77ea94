#include "kernels/cuda/lt_products.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/lt_library.h"
#include "kernels/cuda/row_trial.h"

namespace quire::cuda {
namespace {

constexpr uint32_t kAlignment = 16;  // bytes; buffers are, the library would assume 256
constexpr int kMaxAlgorithms = 8;
// The algorithm is asked for with so many rows: a prefill chunk, where the time goes.
constexpr int64_t kTypicalRows = 512;
// Rows for which the library itself says whether an algorithm takes them; the trial covers fewer.
constexpr int64_t kCheckedRows[] = {1, 16, 512, 2048, 8192, 32'768};

void check(cublasStatus_t status, const char* op, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(std::string(op) + ": " + what + ": cuBLASLt status " +
                    std::to_string(static_cast<int>(status)));
}

/// A library's descriptor, destroyed with its scope.
template <class Handle>
class Owned {
 public:
  explicit Owned(cublasStatus_t (*destroy)(Handle)) : destroy_(destroy) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) destroy_(handle_);
  }
  Handle* address() { return &handle_; }
  Handle get() const { return handle_; }

 private:
  cublasStatus_t (*destroy_)(Handle);
  Handle handle_ = nullptr;
};

/// out [m, n] = a [m, k] * weight [n, k]^T. The library thinks in columns: out^T [n, m] is
/// weight^T^T * a^T, where our rows are its columns.
struct Product {
  Product(const LtLibrary& lt, int64_t m, int64_t n, int64_t k, int64_t a_stride,
          int64_t out_stride)
      : desc(lt.desc_destroy),
        weight(lt.layout_destroy),
        a(lt.layout_destroy),
        out(lt.layout_destroy) {
    check(lt.desc_create(desc.address(), CUBLAS_COMPUTE_32F, CUDA_R_32F), "matmul", "descriptor");
    const cublasOperation_t transpose = CUBLAS_OP_T;
    check(lt.desc_set(desc.get(), CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose),
          "matmul", "descriptor");
    const auto rows_m = static_cast<uint64_t>(m), rows_n = static_cast<uint64_t>(n);
    const auto depth = static_cast<uint64_t>(k);
    check(lt.layout_create(weight.address(), CUDA_R_16BF, depth, rows_n, k), "matmul", "layout");
    check(lt.layout_create(a.address(), CUDA_R_16BF, depth, rows_m, a_stride), "matmul", "layout");
    check(lt.layout_create(out.address(), CUDA_R_32F, rows_n, rows_m, out_stride), "matmul",
          "layout");
  }

  Owned<cublasLtMatmulDesc_t> desc;
  Owned<cublasLtMatrixLayout_t> weight, a, out;
};

class LoadedLtProducts final : public LtProducts {
 public:
  LoadedLtProducts(std::unique_ptr<LtLibrary> lt, cublasLtHandle_t handle)
      : lt_(std::move(lt)), handle_(handle) {}
  LoadedLtProducts(const LoadedLtProducts&) = delete;
  LoadedLtProducts& operator=(const LoadedLtProducts&) = delete;
  ~LoadedLtProducts() override { lt_->destroy(handle_); }

  bool accepts(int64_t n, int64_t k, const OpStream& stream) override {
    const auto known = algorithms_.find({n, k});
    if (known != algorithms_.end()) return known->second.has_value();
    std::optional<cublasLtMatmulAlgo_t> chosen;
    if (n % 8 == 0 && k % 8 == 0) {
      for (const cublasLtMatmulAlgo_t& algorithm : candidates(n, k, stream)) {
        const auto multiply_with = [&](const ConstTensorView& a, const ConstTensorView& weight,
                                       const TensorView& out) {
          return try_multiply(algorithm, a, weight, out, stream) == CUBLAS_STATUS_SUCCESS;
        };
        if (takes_any_rows(algorithm, n, k, stream) &&
            rows_are_independent(n, k, stream, multiply_with)) {
          chosen = algorithm;
          break;
        }
      }
    }
    algorithms_[{n, k}] = chosen;
    return chosen.has_value();
  }

  std::string description() const override {
    std::string refused;
    size_t num_accepted = 0;
    for (const auto& [shape, algorithm] : algorithms_) {
      num_accepted += algorithm.has_value();
      if (algorithm) continue;
      refused += (refused.empty() ? "; not " : ", ") + std::to_string(shape.first) + " x " +
                 std::to_string(shape.second);
    }
    return std::to_string(num_accepted) + " of " + std::to_string(algorithms_.size()) +
           " shapes of weights" + refused;
  }

  void multiply(const ConstTensorView& a, const ConstTensorView& weight, const TensorView& out,
                const OpStream& stream) override {
    const auto& algorithm = algorithms_.at({weight.shape[0], weight.shape[1]});
    check(try_multiply(algorithm.value(), a, weight, out, stream), stream.op(), "product");
  }

 private:
  static size_t workspace_bytes(const OpStream& stream) {
    return std::min(kMaxWorkspaceBytes, stream.scratch().size());
  }

  /// The library's own choices for this weight, best first, without those that split k.
  std::vector<cublasLtMatmulAlgo_t> candidates(int64_t n, int64_t k, const OpStream& stream) {
    const Product product(*lt_, kTypicalRows, n, k, k, n);
    Owned<cublasLtMatmulPreference_t> preference(lt_->preference_destroy);
    check(lt_->preference_create(preference.address()), stream.op(), "preference");
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(lt_->preference_set(preference.get(), attribute, &value, sizeof value), stream.op(),
            "preference");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_bytes(stream)});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAlignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAlignment);
    std::array<cublasLtMatmulHeuristicResult_t, kMaxAlgorithms> results{};
    int num_results = 0;
    const cublasStatus_t status = lt_->heuristic(
        handle_, product.desc.get(), product.weight.get(), product.a.get(), product.out.get(),
        product.out.get(), preference.get(), kMaxAlgorithms, results.data(), &num_results);
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    if (status != CUBLAS_STATUS_SUCCESS) return algorithms;  // a shape it does not know
    for (int i = 0; i < num_results; ++i) {
      if (results[static_cast<size_t>(i)].state != CUBLAS_STATUS_SUCCESS) continue;
      const cublasLtMatmulAlgo_t& algorithm = results[static_cast<size_t>(i)].algo;
      int32_t num_splits = 1;
      size_t written = 0;
      const cublasStatus_t got = lt_->algo_get(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                               &num_splits, sizeof num_splits, &written);
      if (got == CUBLAS_STATUS_SUCCESS && num_splits <= 1) algorithms.push_back(algorithm);
    }
    return algorithms;
  }

  /// Whether an algorithm, chosen for some number of rows, is one for others, too, with this much
  /// workspace.
  bool takes_any_rows(const cublasLtMatmulAlgo_t& algorithm, int64_t n, int64_t k,
                      const OpStream& stream) {
    return std::ranges::all_of(kCheckedRows, [&](int64_t num_rows) {
      const Product product(*lt_, num_rows, n, k, k, n);
      cublasLtMatmulHeuristicResult_t result{};
      return lt_->algo_check(handle_, product.desc.get(), product.weight.get(), product.a.get(),
                             product.out.get(), product.out.get(), &algorithm,
                             &result) == CUBLAS_STATUS_SUCCESS &&
             result.workspaceSize <= workspace_bytes(stream);
    });
  }

  cublasStatus_t try_multiply(const cublasLtMatmulAlgo_t& algorithm, const ConstTensorView& a,
                              const ConstTensorView& weight, const TensorView& out,
                              const OpStream& stream) {
    const Product product(*lt_, a.shape[0], weight.shape[0], weight.shape[1], a.stride[0],
                          out.stride[0]);
    const float one = 1.0f, zero = 0.0f;
    return lt_->matmul(handle_, product.desc.get(), &one, weight.data, product.weight.get(), a.data,
                       product.a.get(), &zero, out.data, product.out.get(), out.data,
                       product.out.get(), &algorithm, stream.scratch().data(),
                       workspace_bytes(stream), stream.handle());
  }

  std::unique_ptr<LtLibrary> lt_;
  cublasLtHandle_t handle_;
  // By (n, k); none where no algorithm passed the trial.
  std::map<std::pair<int64_t, int64_t>, std::optional<cublasLtMatmulAlgo_t>> algorithms_;
};

}  // namespace

std::unique_ptr<LtProducts> LtProducts::open() {
  auto lt = LtLibrary::open();
  cublasLtHandle_t handle = nullptr;
  if (lt == nullptr || lt->create(&handle) != CUBLAS_STATUS_SUCCESS) return nullptr;
  return std::make_unique<LoadedLtProducts>(std::move(lt), handle);
}

}  // namespace quire::cuda
