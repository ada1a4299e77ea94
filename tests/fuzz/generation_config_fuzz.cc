// Any text is either refused with a LoadError or gives defaults that a request may have.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "models/generation_config.h"
#include "models/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto sampling = quire::parse_sampling_defaults(
        std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
    const bool is_in_range =
        sampling.temperature >= 0 && sampling.temperature <= quire::kMaxTemperature &&
        sampling.top_p > 0 && sampling.top_p <= quire::kMaxTopP && sampling.min_p >= 0 &&
        sampling.min_p <= quire::kMaxMinP && sampling.repetition_penalty > 0 &&
        sampling.repetition_penalty <= quire::kMaxRepetitionPenalty &&
        sampling.top_k >= quire::kNoTopK && sampling.max_new_tokens.value_or(1) >= 1;
    if (!is_in_range || quire::sampling_text(sampling).empty()) std::abort();
  } catch (const quire::LoadError&) {
  }
  return 0;
}
