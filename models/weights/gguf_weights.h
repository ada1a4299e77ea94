#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <list>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/quant/block_matrix.h"
#include "kernels/tensor.h"
#include "models/weights/gguf.h"

namespace quire {

/// Whether a GGUF tensor is one that this code reads: "blk.3.attn_q.weight", …
bool is_known_gguf_tensor(std::string_view name);

/// Row `row` of a tensor (a vector is one row) as f32, as its type defines the numbers. REQUIRES:
/// out has the row's length.
void widen_gguf_row(const GgufTensor& tensor, int64_t row, std::span<float> out);

/// The weights of a GGUF file under the names that they have in a Hugging Face folder, as bf16, to
/// which numbers of other types are rounded, once, or as f32. Llama's query and key rows, which the
/// format keeps in pairs (rotated neighbours side by side), are put back into halves. Views stay
/// valid for as long as this lives. For the loading thread.
class GgufWeights {
 public:
  /// Throws LoadError naming the file.
  explicit GgufWeights(const std::filesystem::path& path);

  bool contains(std::string_view name) const;

  /// A contiguous view of bf16 or f32 in host memory. Throws LoadError naming the file, the tensor
  /// and the expected and actual shape.
  ConstTensorView get(std::string_view name, DType dtype, std::initializer_list<int64_t> shape);
  /// Says that a view which `get` gave is not read any more: its memory is freed.
  void release(const ConstTensorView& view);
  /// Says that there will be no further `get`: the file is unmapped. Throws LoadError naming a
  /// tensor that nobody has asked for: a model that has it computes something else.
  void finish_loading();
  /// Of all tensors as they are stored.
  int64_t stored_bytes() const;
  int64_t stored_bytes(std::string_view name) const;
  /// The stored types of numbers that `get` has changed when it rounded them to bf16.
  const std::set<std::string, std::less<>>& rounded_types() const { return rounded_types_; }

  /// The matrix in its blocks, if it is stored so. Throws LoadError as `get` does. Valid until
  /// `release_blocks`.
  std::optional<BlockMatrix> blocks(std::string_view name, std::initializer_list<int64_t> shape);
  void release_blocks() { reordered_.clear(); }

  /// "Q4_K". REQUIRES: contains(name).
  std::string_view stored_type(std::string_view name) const;

 private:
  struct Found {
    std::string name;
    const GgufTensor* tensor = nullptr;
  };

  Found find(std::string_view name) const;
  /// Counts as a use.
  Found require(std::string_view name, std::initializer_list<int64_t> shape);
  /// Where row `row` of a Hugging Face matrix lies here.
  int64_t stored_row(std::string_view name, int64_t row, int64_t num_rows) const;
  const void* copy_of(std::string_view name, const GgufTensor& tensor, DType dtype);

  const GgufFile& file() const;

  std::set<std::string, std::less<>> used_;  // by their names in the file
  std::optional<GgufFile> file_;             // until loading is finished
  bool has_paired_rows_ = false;             // of llama
  int64_t num_heads_ = 0;
  int64_t num_kv_heads_ = 0;
  std::list<std::vector<std::byte>> copies_;
  std::set<std::string, std::less<>> rounded_types_;
  std::list<std::vector<std::byte>> reordered_;  // blocks of matrices whose rows are in pairs
};

}  // namespace quire
