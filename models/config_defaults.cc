#include "models/config_defaults.h"

#include <array>

namespace quire {
namespace {

constexpr std::array kDefaults = {
    ConfigDefaults{.architecture = "LlamaForCausalLM",
                   .model_type = "llama",
                   .vocab_size = 32000,
                   .hidden_size = 4096,
                   .intermediate_size = 11008,
                   .num_layers = 32,
                   .num_heads = 32,
                   .max_position_embeddings = 2048,
                   .eos_token_id = 2},
    ConfigDefaults{.architecture = "MistralForCausalLM",
                   .model_type = "mistral",
                   .vocab_size = 32000,
                   .hidden_size = 4096,
                   .intermediate_size = 14336,
                   .num_layers = 32,
                   .num_heads = 32,
                   .num_kv_heads = 8,
                   .max_position_embeddings = 131072,
                   .eos_token_id = 2},
    ConfigDefaults{.architecture = "Qwen2ForCausalLM",
                   .model_type = "qwen2",
                   .vocab_size = 151936,
                   .hidden_size = 4096,
                   .intermediate_size = 22016,
                   .num_layers = 32,
                   .num_heads = 32,
                   .num_kv_heads = 32,
                   .max_position_embeddings = 32768},
    ConfigDefaults{.architecture = "Qwen3ForCausalLM",
                   .model_type = "qwen3",
                   .vocab_size = 151936,
                   .hidden_size = 4096,
                   .intermediate_size = 22016,
                   .num_layers = 32,
                   .num_heads = 32,
                   .num_kv_heads = 32,
                   .head_dim = 128,
                   .max_position_embeddings = 32768},
    ConfigDefaults{.architecture = "Phi3ForCausalLM",
                   .model_type = "phi3",
                   .vocab_size = 32064,
                   .hidden_size = 3072,
                   .intermediate_size = 8192,
                   .num_layers = 32,
                   .num_heads = 32,
                   .max_position_embeddings = 4096,
                   .rms_norm_eps = 1e-5,
                   .eos_token_id = 32000},
    ConfigDefaults{.architecture = "SmolLM3ForCausalLM",
                   .model_type = "smollm3",
                   .vocab_size = 128256,
                   .hidden_size = 2048,
                   .intermediate_size = 11008,
                   .num_layers = 36,
                   .num_heads = 16,
                   .num_kv_heads = 4,
                   .max_position_embeddings = 32768,
                   .tie_word_embeddings = true,
                   .eos_token_id = 128001},
};

}  // namespace

const ConfigDefaults* find_config_defaults(std::string_view name) {
  for (const ConfigDefaults& defaults : kDefaults) {
    if (defaults.architecture == name || defaults.model_type == name) return &defaults;
  }
  return nullptr;
}

}  // namespace quire
