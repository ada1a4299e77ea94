// Any text is either refused with a LoadError or gives numbers that can be calculated with.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "models/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto config = quire::parse_model_config(
        std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
    if (config.group_size() < 1 || config.head_dim % 2 != 0) std::abort();
    for (const double frequency : config.inv_freq()) {
      if (!(frequency > 0 && frequency <= 1)) std::abort();
    }
  } catch (const quire::LoadError&) {
  }
  return 0;
}
