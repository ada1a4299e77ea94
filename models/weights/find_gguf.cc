#include "models/weights/find_gguf.h"

#include <algorithm>
#include <system_error>

#include "models/model_config.h"

namespace quire {

std::optional<std::filesystem::path> find_gguf(const std::filesystem::path& model) {
  std::error_code error;
  if (std::filesystem::is_regular_file(model, error)) return model;
  if (std::filesystem::exists(model / "model.safetensors", error) ||
      std::filesystem::exists(model / "model.safetensors.index.json", error)) {
    return std::nullopt;
  }
  std::optional<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(model, error)) {
    if (entry.path().extension() != ".gguf") continue;
    if (found) {
      throw LoadError(model.string() + ": more than one .gguf file (" +
                      std::min(*found, entry.path()).filename().string() + ", " +
                      std::max(*found, entry.path()).filename().string() +
                      "); name the file itself");
    }
    found = entry.path();
  }
  return found;
}

}  // namespace quire
