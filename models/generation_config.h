#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

// The range of each number, in a request as in a file. top_p and repetition_penalty are above 0,
// which the engine has to see: it has floats.
constexpr double kMaxTemperature = 2.0;
constexpr double kMaxTopP = 1.0;
constexpr double kMaxMinP = 1.0;
constexpr double kMaxRepetitionPenalty = 10.0;
constexpr bool is_above_zero(double value) { return static_cast<float>(value) > 0; }
constexpr int32_t kNoTopK = -1;  // as good as 0: every token may be drawn
constexpr int32_t kLargestTopK = 1 << 30;
constexpr int32_t kLargestMaxTokens = 1 << 30;

/// How tokens are drawn for a request that does not say. Unless a model says otherwise, what the
/// OpenAI API promises: the model's own probabilities.
struct SamplingDefaults {
  double temperature = 1.0;  // 0: greedy
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  int32_t top_k = 0;  // 0: all
  std::optional<int32_t> max_new_tokens = {};
  // Keys of the file that would change what is drawn, and that nothing here honours.
  std::vector<std::string> unused_keys = {};
  bool is_from_file = false;
};

/// Reads a Hugging Face generation_config.json. Absent keys keep their defaults; do_sample = false
/// is temperature 0. Throws LoadError, naming the key, for another type and for a value that no
/// request may have.
SamplingDefaults parse_sampling_defaults(std::string_view json_text, std::string_view source_name);

/// Of a folder with a generation_config.json; the defaults without one, and for a GGUF file.
SamplingDefaults load_sampling_defaults(const std::filesystem::path& model);

/// Temperature, top_p and whatever else is in force: "temperature 0.6, top_p 0.95, top_k 20".
std::string sampling_text(const SamplingDefaults& sampling);

}  // namespace quire
