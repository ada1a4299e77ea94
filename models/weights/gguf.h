#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/weights/gguf_metadata.h"
#include "models/weights/mapped_file.h"

namespace quire {

/// The number that stands for a tensor's type in a GGUF file; of those that are read here.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};
std::string_view gguf_type_name(GgufType type);

/// One tensor, as the file describes it and as its bytes bear out.
struct GgufTensor {
  GgufType type = GgufType::kF32;
  std::vector<int64_t> shape;       // 1 to 4 extents, each >= 1; the fastest last ([rows, columns])
  std::span<const std::byte> data;  // exactly what type and shape take, inside the file
};

struct GgufContents {
  GgufMetadata metadata;
  std::map<std::string, GgufTensor, std::less<>> tensors;
};

/// A whole GGUF file in memory, version 2 or 3, little-endian. Nothing in it is believed: counts,
/// lengths and offsets are compared with the bytes that are left before anything is allocated for
/// them, so memory stays within a constant factor of the file; names stand once; the data of the
/// tensors must follow each other without overlap or hole but for the alignment's padding (bytes
/// behind the last are passed over). Throws LoadError beginning with `source_name`, and so for
/// tensor types that are not in GgufType. The contents point into `file`.
GgufContents parse_gguf(std::span<const std::byte> file, std::string_view source_name);

/// A GGUF file, mapped as MappedFile says. Immutable, any thread.
class GgufFile {
 public:
  /// Throws LoadError naming the file, also for one part of a model that was split.
  explicit GgufFile(const std::filesystem::path& path);

  const GgufContents& contents() const { return contents_; }
  const GgufMetadata& metadata() const { return contents_.metadata; }
  /// Null if there is no such tensor.
  const GgufTensor* find(std::string_view name) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  GgufContents contents_;
};

}  // namespace quire
