#include "models/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "models/model_config.h"

namespace quire {

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const auto fail = [&path](const std::string& what) {
    throw LoadError(path.string() + ": " + what);
  };
  // Without O_NONBLOCK a named pipe would have us wait for its writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(std::strerror(errno));
  struct stat info {};
  const bool is_file = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  if (!is_file || info.st_size == 0) {
    ::close(fd);
    fail(is_file ? "the file is empty" : "not a regular file");
  }
  const auto size_bytes = static_cast<size_t>(info.st_size);
  void* memory = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int map_error = errno;
  ::close(fd);
  if (memory == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(map_error));
  bytes_ = {static_cast<const std::byte*>(memory), size_bytes};
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size()); }

}  // namespace quire
