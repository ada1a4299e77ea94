// Any bytes are either refused with a LoadError or give entries whose data lies inside the file.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "models/model_config.h"
#include "models/weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    size_t data_bytes = 0;
    for (const auto& [name, entry] : quire::parse_safetensors(file, "fuzz")) {
      const std::byte* begin = entry.data.data();
      if (begin < file.data() || begin + entry.data.size() > file.data() + size) std::abort();
      data_bytes += entry.data.size();
    }
    if (data_bytes > size) std::abort();  // they overlap
  } catch (const quire::LoadError&) {
  }
  return 0;
}
