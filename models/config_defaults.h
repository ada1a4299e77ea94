#pragma once

#include <cstdint>
#include <string_view>

namespace quire {

/// What transformers takes for a key that a config.json lacks: the defaults of the architecture's
/// configuration class.
struct ConfigDefaults {
  std::string_view architecture;
  std::string_view model_type;  // names the architecture where "architectures" is absent
  int32_t vocab_size;
  int32_t hidden_size;
  int32_t intermediate_size;
  int32_t num_layers;
  int32_t num_heads;
  int32_t num_kv_heads = 0;  // 0: as many as query heads
  int32_t head_dim = 0;      // 0: what hidden_size leaves to a head
  int32_t max_position_embeddings;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  int32_t eos_token_id = -1;  // -1: none
};

/// Those of an architecture, or of a model_type; null if there are none.
const ConfigDefaults* find_config_defaults(std::string_view name);

}  // namespace quire
