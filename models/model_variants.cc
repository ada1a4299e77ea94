#include "models/model_variants.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "kernels/check.h"

namespace quire {
namespace {

using Json = nlohmann::json;
using IntRange = JsonFields::IntRange;

constexpr IntRange kWindow{1, 1 << 30};
constexpr IntRange kLayerCount{0, 1 << 20};

/// Which layers attend through a window.
enum class Windows {
  kNever,    // transformers does not read the field
  kAll,      // every layer, if there is a window
  kByLayer,  // those that layer_types lists; if there is no list, by a rule
};

/// Fields that one architecture reads and another does not.
struct Variant {
  std::string_view architecture;
  Windows windows = Windows::kNever;
  bool reads_attention_bias = false;  // of the q, k, v and o projections
  bool reads_mlp_bias = false;
  bool has_qkv_bias = false;
  bool has_head_norm = false;
  bool has_fused_projections = false;
  bool has_unrotated_layers = false;
};

constexpr std::array kVariants = {
    Variant{
        .architecture = "LlamaForCausalLM", .reads_attention_bias = true, .reads_mlp_bias = true},
    Variant{.architecture = "MistralForCausalLM", .windows = Windows::kAll},
    Variant{.architecture = "Qwen2ForCausalLM", .windows = Windows::kByLayer, .has_qkv_bias = true},
    Variant{.architecture = "Qwen3ForCausalLM",
            .windows = Windows::kByLayer,
            .reads_attention_bias = true,
            .has_head_norm = true},
    Variant{
        .architecture = "Phi3ForCausalLM", .windows = Windows::kAll, .has_fused_projections = true},
    Variant{.architecture = "SmolLM3ForCausalLM",
            .windows = Windows::kByLayer,
            .reads_attention_bias = true,
            .reads_mlp_bias = true,
            .has_unrotated_layers = true},
};

const Variant& variant_of(const ModelConfig& config) {
  const auto found = std::find_if(kVariants.begin(), kVariants.end(), [&](const Variant& variant) {
    return variant.architecture == config.architecture;
  });
  QUIRE_CHECK(found != kVariants.end()) << config.architecture;
  return *found;
}

/// A field that changes the mathematics, with the only value that this code computes.
struct FixedField {
  std::string_view key;
  Json only;
  Json synonym = nullptr;  // another name of the same
};

const std::vector<FixedField>& fixed_fields() {
  static const std::vector<FixedField> fields = {
      {"hidden_act", "silu", "swish"},
      {"hidden_activation", "silu", "swish"},
      {"qkv_bias", false},
      {"use_qk_norm", false},
      {"qk_norm", false},
      {"qk_layernorm", false},
      {"clip_qkv", nullptr},
      {"rope_interleaved", false},
      {"use_mrope", false},
      {"attention_chunk_size", nullptr},
      {"sliding_window_pattern", nullptr},
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr},
      {"query_pre_attn_scalar", nullptr},
      {"attention_multiplier", nullptr},
      {"embedding_multiplier", 1.0},
      {"residual_multiplier", 1.0},
      {"logits_scaling", 1.0},
      {"logit_scale", 1.0},
      {"num_local_experts", nullptr},
      {"num_experts", nullptr},
      {"is_causal", true},
      {"use_bidirectional_attention", false},
      {"is_encoder_decoder", false},
      {"add_cross_attention", false},
  };
  return fields;
}

void refuse_unless(const JsonFields& fields, std::string_view key, const Json& only) {
  const Json* value = fields.find(key);
  if (value == nullptr || *value == only) return;
  fields.fail(key, "not supported: " + describe_json(*value) +
                       (only.is_null() ? " (must be absent)" : " (must be " + only.dump() + ")"));
}

/// layer_types, one per layer; empty if absent. True: through the window.
std::vector<bool> parse_layer_types(const JsonFields& fields, const ModelConfig& config) {
  std::vector<bool> windowed;
  const Json* types = fields.find("layer_types");
  if (types == nullptr) return windowed;
  for (const Json& type : *types) {
    if (type != "full_attention" && type != "sliding_attention") {
      fields.fail("layer_types", "not supported: " + describe_json(type));
    }
    windowed.push_back(type == "sliding_attention");
  }
  if (static_cast<int32_t>(windowed.size()) != config.num_layers) {
    fields.fail("layer_types", "expected " + std::to_string(config.num_layers) + " layers, got " +
                                   std::to_string(windowed.size()));
  }
  return windowed;
}

/// 0: none. What transformers takes if the key is absent depends on the architecture.
int32_t parse_window(const JsonFields& fields, const ModelConfig& config, const Variant& variant) {
  constexpr int32_t kDefaultWindow = 4096;
  if (variant.windows == Windows::kByLayer &&
      !fields.optional_boolean("use_sliding_window").value_or(false)) {
    return 0;
  }
  const bool has_default =
      config.architecture != "Phi3ForCausalLM" && config.architecture != "SmolLM3ForCausalLM";
  if (has_default && !fields.stands("sliding_window")) return kDefaultWindow;
  return fields.optional_integer("sliding_window", kWindow).value_or(0);
}

void parse_windows(const JsonFields& fields, ModelConfig& config, const Variant& variant) {
  const std::vector<bool> types = parse_layer_types(fields, config);
  const bool any_sliding = std::find(types.begin(), types.end(), true) != types.end();
  if (variant.windows != Windows::kByLayer && any_sliding) {
    fields.fail("layer_types", "not supported: \"sliding_attention\" (every layer must be alike)");
  }
  if (variant.windows == Windows::kNever) {
    // Models that could slide but do not carry a window beside "use_sliding_window": false.
    if (fields.has("sliding_window") && fields.optional_boolean("use_sliding_window") != false) {
      refuse_unless(fields, "sliding_window", nullptr);
    }
    return;
  }
  config.sliding_window = parse_window(fields, config, variant);
  if (config.sliding_window == 0) {
    if (any_sliding) fields.fail("layer_types", "\"sliding_attention\" without a sliding_window");
    return;
  }
  constexpr int32_t kDefaultFirstWindow = 28;
  const int32_t first_window =
      fields.optional_integer("max_window_layers", kLayerCount).value_or(kDefaultFirstWindow);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    bool is_windowed = variant.windows == Windows::kAll;
    if (variant.windows == Windows::kByLayer) {
      is_windowed = !types.empty()                 ? types[static_cast<size_t>(layer)]
                    : variant.has_unrotated_layers ? !config.is_rotated_layer(layer)
                                                   : layer >= first_window;
    }
    if (is_windowed) config.windowed_layers.push_back(layer);
  }
  if (config.windowed_layers.empty()) config.sliding_window = 0;
}

/// no_rope_layers holds, against its name, a 1 for every layer that rotates.
void parse_unrotated_layers(const JsonFields& fields, ModelConfig& config) {
  constexpr int32_t kDefaultInterval = 4;
  const std::vector<int32_t> rotates = fields.integers("no_rope_layers", {0, 1});
  const int32_t interval = fields.optional_integer("no_rope_layer_interval", {1, kLayerCount.max})
                               .value_or(kDefaultInterval);
  if (fields.has("no_rope_layers") && static_cast<int32_t>(rotates.size()) < config.num_layers) {
    fields.fail("no_rope_layers", "expected " + std::to_string(config.num_layers) +
                                      " layers, got " + std::to_string(rotates.size()));
  }
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const bool is_rotated =
        rotates.empty() ? (layer + 1) % interval != 0 : rotates[static_cast<size_t>(layer)] == 1;
    if (!is_rotated) config.unrotated_layers.push_back(layer);
  }
}

}  // namespace

void parse_variant(const JsonFields& fields, ModelConfig& config) {
  const Variant& variant = variant_of(config);
  const bool attention_bias =
      variant.reads_attention_bias && fields.optional_boolean("attention_bias").value_or(false);
  config.has_qkv_bias = variant.has_qkv_bias || attention_bias;
  config.has_output_bias = attention_bias;
  config.has_mlp_bias =
      variant.reads_mlp_bias && fields.optional_boolean("mlp_bias").value_or(false);
  config.has_head_norm = variant.has_head_norm;
  config.has_fused_projections = variant.has_fused_projections;
  if (variant.has_unrotated_layers) parse_unrotated_layers(fields, config);
  parse_windows(fields, config, variant);
}

void refuse_foreign_mathematics(const JsonFields& fields, const ModelConfig& config) {
  const Variant& variant = variant_of(config);
  for (const FixedField& fixed : fixed_fields()) {
    const Json* value = fields.find(fixed.key);
    if (value == nullptr || *value != fixed.synonym) refuse_unless(fields, fixed.key, fixed.only);
  }
  if (!variant.reads_attention_bias) refuse_unless(fields, "attention_bias", false);
  if (!variant.reads_mlp_bias) refuse_unless(fields, "mlp_bias", false);
  if (!variant.has_unrotated_layers) refuse_unless(fields, "no_rope_layers", nullptr);
}

}  // namespace quire
