#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/quant/fp8_matrix.h"
#include "kernels/tensor.h"
#include "models/fp8_config.h"
#include "models/weights/gguf_weights.h"
#include "models/weights/safetensors.h"

namespace quire {

/// The tensors of a model by their Hugging Face names: model.safetensors, the shards that
/// model.safetensors.index.json lists, or a GGUF file. A view stays valid until it is released, or
/// as long as the store lives. Immutable once loading is done; everything here is for the loading
/// thread.
class WeightStore {
 public:
  /// Maps every file of the folder (or the GGUF file itself) and checks every header. `fp8` is how
  /// the folder's config.json says that matrices are stored. Throws LoadError.
  explicit WeightStore(const std::filesystem::path& model, std::optional<Fp8Scheme> fp8 = {});

  bool contains(std::string_view name) const;

  /// Of all tensors as they are stored.
  int64_t stored_bytes() const;
  /// Of one. REQUIRES: contains(name).
  int64_t stored_bytes(std::string_view name) const;

  /// A contiguous view in host memory, aligned to its element. What is stored as F16 or F32 and
  /// wanted as bf16 (or in a GGUF's blocks, or a matrix in F8_E4M3, times its scales) is rounded to
  /// the nearest, ties to even, into memory of the store's own; what is wanted as f32 and stored as
  /// F16 or BF16 (or in blocks) is widened there. Throws LoadError naming the tensor, its file, and
  /// the expected and actual dtype and shape.
  ConstTensorView get(std::string_view name, DType dtype, std::initializer_list<int64_t> shape);

  /// The matrix in the blocks of a GGUF, if it is stored so. Throws LoadError as `get` does. Valid
  /// until `release_blocks`.
  std::optional<BlockMatrix> blocks(std::string_view name, std::initializer_list<int64_t> shape);
  void release_blocks();

  /// The matrix in FP8 beside its scales, if it is stored so. Throws LoadError as `get` does. Valid
  /// until `release_fp8`.
  std::optional<Fp8Matrix> fp8(std::string_view name, std::initializer_list<int64_t> shape);
  void release_fp8();

  /// "BF16", "Q4_K". REQUIRES: contains(name).
  std::string_view stored_type(std::string_view name) const;

  /// Says that a view which `get` gave is not read any more: its memory goes back to the system.
  void release(const ConstTensorView& view);

  /// Says that there will be no further `get`: files that no view reads are unmapped.
  void finish_loading();

  /// The stored dtypes that `get` has rounded to bf16, as in "F16, F32"; "" for none.
  std::string rounded_dtypes() const;

 private:
  struct Location {
    const SafetensorsFile* file = nullptr;
    const SafetensorsEntry* entry = nullptr;
  };

  struct Found {
    Location location;
    std::string scales;  // the tensor of them, of a matrix in FP8
  };

  /// What is behind a matrix that stays in FP8.
  struct LentFp8 {
    std::span<const std::byte> codes = {};  // in the mapped file
    std::vector<float> scales = {};
  };

  /// What is behind a view.
  struct Loan {
    const SafetensorsFile* file = nullptr;  // that the view reads, or null
    std::span<const std::byte> mapped = {};
    std::vector<int64_t> copy = {};  // rounded, or realigned
  };

  void load_shards(const std::filesystem::path& model_dir, const std::filesystem::path& index_path);
  const void* lend(const Location& location, DType dtype);
  const void* lend_copy(std::span<const std::byte> stored, size_t num_bytes,
                        const std::function<void(void*)>& fill);
  const void* lend_fp8(const Location& location, std::string_view scales_name);
  Found find(std::string_view name, DType dtype, std::initializer_list<int64_t> shape) const;
  Fp8Matrix fp8_matrix(const Location& location, std::string_view scales_name,
                       std::vector<float>& scales) const;
  std::string fp8_scales_of(std::string_view name, const Location& location) const;
  std::string find_scales(std::string_view name) const;
  std::vector<float> read_scales(std::string_view name, const std::vector<int64_t>& shape) const;

  std::filesystem::path model_dir_;
  std::optional<Fp8Scheme> fp8_;
  std::unique_ptr<GgufWeights> gguf_;  // then there is nothing else
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Location, std::less<>> tensors_;
  std::multimap<const void*, Loan> loans_;  // by the view's address
  std::set<std::string, std::less<>> rounded_;
  std::deque<LentFp8> lent_fp8_;
};

}  // namespace quire
