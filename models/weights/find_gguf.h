#pragma once

#include <filesystem>
#include <optional>

namespace quire {

/// The GGUF file that `model` stands for: a file itself, or the only *.gguf of a folder that has
/// neither model.safetensors nor its index. Nullopt for every other folder. Throws LoadError for a
/// folder with several.
std::optional<std::filesystem::path> find_gguf(const std::filesystem::path& model);

}  // namespace quire
