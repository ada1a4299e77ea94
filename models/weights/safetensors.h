#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/weights/mapped_file.h"

namespace quire {

/// One tensor of a safetensors file, as its header describes it and as its bytes bear out.
struct SafetensorsEntry {
  std::string dtype;                // as in the header: "BF16", "F32", …
  std::vector<int64_t> shape;       // each extent >= 0; no entries: a scalar
  std::span<const std::byte> data;  // exactly dtype * shape bytes, inside the file
};

/// Name -> entry. The transparent comparator allows look-up without a copy.
using SafetensorsEntries = std::map<std::string, SafetensorsEntry, std::less<>>;

/// The entries of a whole file in memory. Nothing in the header is believed: its length and every
/// offset are checked against the size of `file` with checked arithmetic; dtype, shape and byte
/// count must agree; the tensors must tile the data exactly, without overlap, hole or rest. Throws
/// LoadError beginning with `source_name`. The entries point into `file`.
SafetensorsEntries parse_safetensors(std::span<const std::byte> file, std::string_view source_name);

/// "[2, 3]".
std::string describe_shape(std::span<const int64_t> shape);

/// A safetensors file, mapped as MappedFile says. Immutable, any thread.
class SafetensorsFile {
 public:
  /// Throws LoadError naming the file.
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// Null if there is no such tensor.
  const SafetensorsEntry* find(std::string_view name) const;
  const SafetensorsEntries& entries() const { return entries_; }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  SafetensorsEntries entries_;
};

}  // namespace quire
