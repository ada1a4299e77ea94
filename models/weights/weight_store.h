#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "models/weights/safetensors.h"

namespace quire {

/// The tensors of a model folder by name: model.safetensors, or the shards that
/// model.safetensors.index.json lists. Views stay valid for as long as the store lives. Immutable
/// once loading is done; `get` is for the loading thread.
class WeightStore {
 public:
  /// Maps every file and checks every header. Throws LoadError.
  explicit WeightStore(const std::filesystem::path& model_dir);

  bool contains(std::string_view name) const { return tensors_.contains(name); }

  /// A contiguous view in host memory, aligned to its element. Throws LoadError naming the tensor,
  /// its file, and the expected and actual dtype and shape.
  ConstTensorView get(std::string_view name, DType dtype, std::initializer_list<int64_t> shape);

 private:
  struct Location {
    const SafetensorsFile* file = nullptr;
    const SafetensorsEntry* entry = nullptr;
  };

  void load_shards(const std::filesystem::path& model_dir, const std::filesystem::path& index_path);
  const void* aligned_data(const SafetensorsEntry& entry, DType dtype);

  std::filesystem::path model_dir_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Location, std::less<>> tensors_;
  std::vector<std::vector<int64_t>> realigned_;  // copies of tensors that lie at an odd address
};

}  // namespace quire
