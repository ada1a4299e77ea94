#include "server/bundled_model.h"

#include <system_error>

namespace quire {

std::filesystem::path bundled_model() {
  std::error_code ignored;
  const auto binary = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const std::filesystem::path in_source_tree = QUIRE_BUNDLED_MODEL;
  const auto installed =
      binary.parent_path().parent_path() / "share/quire" / in_source_tree.filename();
  return std::filesystem::exists(installed, ignored) ? installed : in_source_tree;
}

}  // namespace quire
