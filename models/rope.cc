#include "models/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>

#include "models/model_config.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

// A model for very long contexts wants dimensions that hardly turn over all of its positions.
constexpr JsonFields::Range<double> kTheta{1.0, 1e30};
constexpr JsonFields::Range<double> kFactor{1.0, 1e6};
constexpr JsonFields::Range<double> kTurns{1e-6, 1e6};
constexpr JsonFields::Range<double> kScale{1e-6, 1e6};
constexpr JsonFields::IntRange kPositions{2, 1 << 30};

constexpr std::array<std::pair<std::string_view, RopeType>, 6> kTypes = {{
    {"default", RopeType::kDefault},
    {"linear", RopeType::kLinear},
    {"dynamic", RopeType::kDynamic},
    {"yarn", RopeType::kYarn},
    {"llama3", RopeType::kLlama3},
    {"longrope", RopeType::kLongRope},
}};

bool is_phi3(const ModelConfig& config) { return config.architecture == "Phi3ForCausalLM"; }

RopeType parse_type(const JsonFields& rope, const ModelConfig& config) {
  std::string key = rope.has("rope_type") ? "rope_type" : "type";
  std::string name = rope.optional_string(key).value_or("default");
  // What Phi-3's first folders call it; its formula has been longrope's ever since.
  if (is_phi3(config) && (name == "su" || name == "yarn")) name = "longrope";
  for (const auto& [known, type] : kTypes) {
    const bool is_refused =
        is_phi3(config) && type != RopeType::kDefault && type != RopeType::kLongRope;
    if (known == name && !is_refused) return type;
  }
  rope.fail(key, "RoPE scaling '" + name.substr(0, 100) + "' is not supported");
}

/// Only Phi-3's attention leaves the rest of a head as it is.
int32_t parse_rotary_dim(const JsonFields& fields, const JsonFields& rope,
                         const ModelConfig& config) {
  const JsonFields& owner = rope.has("partial_rotary_factor") ? rope : fields;
  const double share = owner.optional_number("partial_rotary_factor", {0.0, 1.0}).value_or(1.0);
  if (share == 1.0) return config.head_dim;
  const auto rotary_dim = static_cast<int32_t>(config.head_dim * share);
  if (!is_phi3(config) || rotary_dim < 2 || rotary_dim % 2 != 0) {
    owner.fail("partial_rotary_factor",
               "not supported: " + describe_json(*owner.find("partial_rotary_factor")) + " (" +
                   std::to_string(rotary_dim) + " of " + std::to_string(config.head_dim) +
                   " dimensions)");
  }
  return rotary_dim;
}

/// Beside the object, where transformers lets it win, or inside.
int32_t parse_original_positions(const JsonFields& fields, const JsonFields& rope,
                                 const ModelConfig& config) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  constexpr int32_t kPhi3Default = 4096;
  if (const auto beside = fields.optional_integer(kKey, kPositions)) return *beside;
  if (is_phi3(config)) return kPhi3Default;
  return rope.optional_integer(kKey, kPositions).value_or(config.max_position_embeddings);
}

/// The temperature that the YaRN paper (arXiv 2309.00071) gives to attention, in cos and sin.
double yarn_attention_factor(const JsonFields& rope, double factor) {
  const auto magnitude = [factor](double scale) {
    return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
  };
  if (const auto given = rope.optional_number("attention_factor", kScale)) return *given;
  const double mscale = rope.optional_number("mscale", {0.0, kScale.max}).value_or(0);
  const double all_dim = rope.optional_number("mscale_all_dim", {0.0, kScale.max}).value_or(0);
  if (mscale > 0 && all_dim > 0) return magnitude(mscale) / magnitude(all_dim);
  return magnitude(1.0);
}

void parse_yarn(const JsonFields& rope, const ModelConfig& config, RopeConfig& result) {
  const double implied =
      static_cast<double>(config.max_position_embeddings) / result.original_positions;
  result.factor = rope.optional_number("factor", kFactor).value_or(implied);
  result.attention_factor = yarn_attention_factor(rope, result.factor);
  result.beta_fast = rope.optional_number("beta_fast", kTurns).value_or(result.beta_fast);
  result.beta_slow = rope.optional_number("beta_slow", kTurns).value_or(result.beta_slow);
  result.truncate = rope.optional_boolean("truncate").value_or(true);
  if (result.theta <= 1) rope.fail("rope_theta", "yarn needs one above 1");
}

void parse_llama3(const JsonFields& rope, RopeConfig& result) {
  result.factor = rope.number("factor", kFactor);
  result.low_freq_factor = rope.number("low_freq_factor", kTurns);
  result.high_freq_factor = rope.number("high_freq_factor", kTurns);
  if (result.high_freq_factor <= result.low_freq_factor) {
    rope.fail("high_freq_factor", "must be greater than low_freq_factor");
  }
}

void parse_longrope(const JsonFields& rope, const ModelConfig& config, RopeConfig& result) {
  const double implied =
      static_cast<double>(config.max_position_embeddings) / result.original_positions;
  result.factor = rope.optional_number("factor", kFactor).value_or(implied);
  const double suggested =
      result.factor <= 1
          ? 1.0
          : std::sqrt(1 + std::log(result.factor) / std::log(result.original_positions));
  result.attention_factor = rope.optional_number("attention_factor", kScale).value_or(suggested);
  for (const auto& [key, list] : {std::pair("short_factor", &result.short_factor),
                                  std::pair("long_factor", &result.long_factor)}) {
    *list = rope.numbers(key, kScale);
    if (list->size() != static_cast<size_t>(result.rotary_dim / 2)) {
      rope.fail(key, "expected " + std::to_string(result.rotary_dim / 2) + " numbers, got " +
                         std::to_string(list->size()));
    }
  }
}

/// theta^(-2i / dim), the frequencies that all types begin with.
std::vector<double> plain_frequencies(double theta, int32_t dim) {
  std::vector<double> frequencies(static_cast<size_t>(dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(theta, -2.0 * static_cast<double>(i) / dim);
  }
  return frequencies;
}

std::vector<double> divided(std::vector<double> frequencies, const std::vector<double>& factors) {
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= factors[i];
  return frequencies;
}

/// Slow dimensions turn `factor` times slower, fast ones as ever, those between in proportion.
void blend_yarn(const RopeConfig& rope, std::vector<double>& frequencies) {
  const auto dim_of_turns = [&rope](double turns) {
    return rope.rotary_dim * std::log(rope.original_positions / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = dim_of_turns(rope.beta_fast), high = dim_of_turns(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rope.rotary_dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / rope.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

void blend_llama3(const RopeConfig& rope, std::vector<double>& frequencies) {
  for (double& frequency : frequencies) {
    const double turns = rope.original_positions * frequency / (2 * std::numbers::pi);
    const double share =
        (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    const double kept = std::clamp(share, 0.0, 1.0);
    frequency = (1 - kept) * frequency / rope.factor + kept * frequency;
  }
}

}  // namespace

RopeConfig parse_rope(const JsonFields& fields, std::string_view source_name,
                      const ModelConfig& config) {
  static const Json kEmpty = Json::object();
  const bool is_old = fields.has("rope_scaling") && !fields.find("rope_scaling")->empty();
  const std::string key = is_old ? "rope_scaling" : "rope_parameters";
  const Json* object = fields.find(key);
  const JsonFields rope(object == nullptr ? kEmpty : *object, source_name, key + ".");
  rope.refuse_other_keys({"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor",
                          "original_max_position_embeddings", "attention_factor", "beta_fast",
                          "beta_slow", "mscale", "mscale_all_dim", "truncate", "low_freq_factor",
                          "high_freq_factor", "short_factor", "long_factor"});
  RopeConfig result;
  const double default_theta = config.architecture == "SmolLM3ForCausalLM" ? 2e6 : 1e4;
  result.theta =
      rope.optional_number("rope_theta", kTheta)
          .value_or(fields.optional_number("rope_theta", kTheta).value_or(default_theta));
  result.type = parse_type(rope, config);
  result.rotary_dim = parse_rotary_dim(fields, rope, config);
  result.original_positions = parse_original_positions(fields, rope, config);
  switch (result.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kLinear:
    case RopeType::kDynamic:
      result.factor = rope.number("factor", kFactor);
      break;
    case RopeType::kYarn:
      parse_yarn(rope, config, result);
      break;
    case RopeType::kLlama3:
      parse_llama3(rope, result);
      break;
    case RopeType::kLongRope:
      parse_longrope(rope, config, result);
      break;
  }
  return result;
}

RopeFrequencies rope_frequencies(const ModelConfig& config, int32_t max_model_len) {
  const RopeConfig& rope = config.rope;
  double theta = rope.theta;
  if (rope.type == RopeType::kDynamic && rope.rotary_dim > 2) {
    const double stretch =
        std::max(1.0, static_cast<double>(max_model_len) / config.max_position_embeddings);
    const double dim = rope.rotary_dim;
    theta *= std::pow(rope.factor * stretch - (rope.factor - 1), dim / (dim - 2));
  }
  std::vector<double> frequencies = plain_frequencies(theta, rope.rotary_dim);
  if (rope.type == RopeType::kLinear) {
    for (double& frequency : frequencies) frequency /= rope.factor;
  }
  if (rope.type == RopeType::kYarn) blend_yarn(rope, frequencies);
  if (rope.type == RopeType::kLlama3) blend_llama3(rope, frequencies);
  for (size_t i = 0; i < rope.divisors.size(); ++i) {
    frequencies[i] /= static_cast<double>(rope.divisors[i]);
  }
  RopeFrequencies result;
  result.attention_factor = rope.attention_factor;
  if (rope.type == RopeType::kLongRope) {
    if (max_model_len > rope.original_positions) {
      result.switch_len = rope.original_positions;
      result.long_inv_freq = divided(frequencies, rope.long_factor);
    }
    frequencies = divided(frequencies, rope.short_factor);
  }
  result.inv_freq = std::move(frequencies);
  return result;
}

}  // namespace quire
