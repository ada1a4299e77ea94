#include "models/generation_config.h"

#include <array>
#include <limits>
#include <sstream>
#include <system_error>

#include "models/strict_json.h"
#include "models/weights/find_gguf.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr int kMaxDepth = 16;
constexpr double kNever = std::numeric_limits<double>::quiet_NaN();  // equals no number

/// A key that changes what transformers draws, and the number with which it does not.
struct UnusedKey {
  const char* name;
  double neutral;
};
constexpr std::array kUnusedKeys = {UnusedKey{"num_beams", 1},
                                    UnusedKey{"num_beam_groups", 1},
                                    UnusedKey{"penalty_alpha", 0},
                                    UnusedKey{"typical_p", 1},
                                    UnusedKey{"epsilon_cutoff", 0},
                                    UnusedKey{"eta_cutoff", 0},
                                    UnusedKey{"guidance_scale", 1},
                                    UnusedKey{"no_repeat_ngram_size", 0},
                                    UnusedKey{"encoder_repetition_penalty", 1},
                                    UnusedKey{"min_length", 0},
                                    UnusedKey{"min_new_tokens", 0},
                                    UnusedKey{"exponential_decay_length_penalty", kNever},
                                    UnusedKey{"forced_bos_token_id", kNever},
                                    UnusedKey{"forced_eos_token_id", kNever},
                                    UnusedKey{"bad_words_ids", kNever},
                                    UnusedKey{"suppress_tokens", kNever},
                                    UnusedKey{"begin_suppress_tokens", kNever},
                                    UnusedKey{"sequence_bias", kNever},
                                    UnusedKey{"stop_strings", kNever},
                                    UnusedKey{"watermarking_config", kNever}};

bool is_neutral(const Json& value, double neutral) {
  return value.empty() || value == Json(false) ||
         (value.is_number() && value.get<double>() == neutral);
}

double above_zero(const JsonFields& fields, std::string_view key, double max, double otherwise) {
  const double value = fields.optional_number(key, {0.0, max}).value_or(otherwise);
  if (!is_above_zero(value)) {
    fields.fail(key, "expected a number greater than 0, got " + describe_json(*fields.find(key)));
  }
  return value;
}

}  // namespace

SamplingDefaults parse_sampling_defaults(std::string_view json_text, std::string_view source_name) {
  const Json root = parse_json(json_text, source_name, kMaxDepth);
  const JsonFields fields(root, source_name);
  SamplingDefaults sampling;
  sampling.is_from_file = true;
  sampling.temperature =
      fields.optional_number("temperature", {0.0, kMaxTemperature}).value_or(sampling.temperature);
  sampling.top_p = above_zero(fields, "top_p", kMaxTopP, sampling.top_p);
  sampling.min_p = fields.optional_number("min_p", {0.0, kMaxMinP}).value_or(sampling.min_p);
  sampling.repetition_penalty =
      above_zero(fields, "repetition_penalty", kMaxRepetitionPenalty, sampling.repetition_penalty);
  sampling.top_k =
      fields.optional_integer("top_k", {kNoTopK, kLargestTopK}).value_or(sampling.top_k);
  sampling.max_new_tokens = fields.optional_integer("max_new_tokens", {1, kLargestMaxTokens});
  if (!fields.optional_boolean("do_sample").value_or(true)) sampling.temperature = 0.0;
  for (const UnusedKey& key : kUnusedKeys) {
    const Json* value = fields.find(key.name);
    if (value != nullptr && !is_neutral(*value, key.neutral)) {
      sampling.unused_keys.emplace_back(key.name);
    }
  }
  return sampling;
}

SamplingDefaults load_sampling_defaults(const std::filesystem::path& model) {
  const auto path = model / "generation_config.json";
  std::error_code error;
  if (find_gguf(model) || !std::filesystem::exists(path, error)) return {};
  return parse_sampling_defaults(read_text_file(path, kMaxFileBytes), path.string());
}

std::string sampling_text(const SamplingDefaults& sampling) {
  std::ostringstream text;
  text << "temperature " << sampling.temperature << ", top_p " << sampling.top_p;
  if (sampling.top_k > 0) text << ", top_k " << sampling.top_k;
  if (sampling.min_p > 0) text << ", min_p " << sampling.min_p;
  if (sampling.repetition_penalty != 1.0) {
    text << ", repetition_penalty " << sampling.repetition_penalty;
  }
  if (sampling.max_new_tokens) text << ", max_tokens " << *sampling.max_new_tokens;
  return text.str();
}

}  // namespace quire
