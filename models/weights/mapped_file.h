#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace quire {

/// A regular file, mapped read-only for as long as this lives: pages come in when they are read.
/// The file must not be truncated meanwhile (the system answers that with SIGBUS). Immutable, any
/// thread.
class MappedFile {
 public:
  /// Throws LoadError naming the file if it cannot be read, is empty or no regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

}  // namespace quire
