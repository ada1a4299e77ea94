#include "server/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

namespace quire {
namespace {

std::optional<uint64_t> read_number(const char* path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // "max", or no such file
}

std::optional<uint64_t> kernel_available() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  uint64_t kibibytes = 0;
  while (file >> key >> kibibytes) {
    std::getline(file, unit);
    if (key == "MemAvailable:") return kibibytes * 1024;
  }
  return std::nullopt;
}

/// Control group version 2, then 1, as seen from inside a container.
std::optional<uint64_t> cgroup_available() {
  auto limit = read_number("/sys/fs/cgroup/memory.max");
  auto used = read_number("/sys/fs/cgroup/memory.current");
  if (!limit) {
    limit = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    used = read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes");
  }
  if (!limit || !used) return std::nullopt;
  return *limit > *used ? *limit - *used : 0;
}

}  // namespace

uint64_t available_memory_bytes() {
  const auto kernel = kernel_available();
  const auto cgroup = cgroup_available();
  if (kernel && cgroup) return std::min(*kernel, *cgroup);
  return kernel.value_or(cgroup.value_or(0));
}

}  // namespace quire
