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
    if (config.fp8 && (config.fp8->scale_suffixes.empty() || config.fp8->scale_rows < 0 ||
                       config.fp8->scale_columns < 0)) {
      std::abort();
    }
    for (const int32_t max_model_len : {1, config.max_position_embeddings, INT32_MAX}) {
      const auto rope = quire::rope_frequencies(config, max_model_len);
      const auto& inv_freq = rope.of(max_model_len);
      if (inv_freq.size() != static_cast<size_t>(config.rope.rotary_dim / 2)) std::abort();
      if (!(rope.attention_factor > 0 && rope.attention_factor <= 1e6)) std::abort();
      for (const double frequency : inv_freq) {
        // A factor of longrope may be as small as 1e-6, and theta overflow with dynamic scaling.
        if (!(frequency >= 0 && frequency <= 1e6)) std::abort();
      }
    }
  } catch (const quire::LoadError&) {
  }
  return 0;
}
