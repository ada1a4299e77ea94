#pragma once

#include <filesystem>

namespace quire {

/// The folder of the model that comes with this binary: of its installation, else of the sources.
std::filesystem::path bundled_model();

}  // namespace quire
