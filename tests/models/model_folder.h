#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/bfloat16.h"
#include "models/model_config.h"

namespace quire::test {

/// An empty folder that disappears with this object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(std::string_view file_name, std::string_view content) const;

 private:
  std::filesystem::path path_;
};

/// The bytes of a safetensors file with this header, whatever it says, and this data.
std::string safetensors_bytes(std::string_view header, std::string_view data);

struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<BFloat16> values;
};

/// A truthful safetensors file; stored as BF16, or widened to F32, or as F16.
/// REQUIRES: every value is one of F16, too, if it is to be stored so.
std::string safetensors_bytes(const std::vector<NamedTensor>& tensors,
                              std::string_view dtype = "BF16");

/// The float16 that is this number. Throws std::invalid_argument if there is none.
uint16_t to_f16(float value);

/// config.json of a Llama of two layers, hidden size 16, four query and two KV heads of 8.
std::string tiny_config(std::string_view more_keys = "");
constexpr int32_t kTinyVocab = 24;

/// Its tensors, random but the same at every call; tied embeddings, so no lm_head.
std::vector<NamedTensor> tiny_tensors();

/// The message of the LoadError that `action` throws; "" if it throws nothing.
template <class Action>
std::string load_error_of(const Action& action) {
  try {
    action();
  } catch (const LoadError& error) {
    return error.what();
  }
  return "";
}

}  // namespace quire::test
