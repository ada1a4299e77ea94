#include "kernels/cpu/host_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <string>

#include "kernels/backend.h"

namespace quire::cpu {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

class MappedBuffer final : public DeviceBuffer {
 public:
  explicit MappedBuffer(size_t bytes) : bytes_(bytes) {
    // One huge page more than asked for, so that the memory can begin where one begins.
    mapped_bytes_ = (bytes / kHugePageBytes + 2) * kHugePageBytes;
    mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped_ == MAP_FAILED) {
      throw DeviceError("cpu: cannot allocate " + std::to_string(bytes) + " bytes");
    }
    const auto begin = reinterpret_cast<uintptr_t>(mapped_);
    const uintptr_t padding = (kHugePageBytes - begin % kHugePageBytes) % kHugePageBytes;
    data_ = static_cast<std::byte*>(mapped_) + padding;
    if (bytes >= kHugePageBytes) madvise(data_, mapped_bytes_ - padding, MADV_HUGEPAGE);
  }
  MappedBuffer(const MappedBuffer&) = delete;
  MappedBuffer& operator=(const MappedBuffer&) = delete;
  ~MappedBuffer() override { munmap(mapped_, mapped_bytes_); }
  void* data() override { return data_; }
  size_t size_bytes() const override { return bytes_; }

 private:
  void* mapped_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_;
  size_t mapped_bytes_ = 0;
};

}  // namespace

std::unique_ptr<DeviceBuffer> allocate_host_memory(size_t bytes) {
  return std::make_unique<MappedBuffer>(bytes);
}

}  // namespace quire::cpu
