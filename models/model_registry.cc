#include "models/model_registry.h"

#include <array>
#include <string>
#include <utility>

#include "models/llama.h"

namespace quire {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"LlamaForCausalLM", make_llama}, Architecture{"MistralForCausalLM", make_llama},
    Architecture{"Qwen2ForCausalLM", make_llama}, Architecture{"Qwen3ForCausalLM", make_llama},
    Architecture{"Phi3ForCausalLM", make_llama},  Architecture{"SmolLM3ForCausalLM", make_llama},
};

}  // namespace

const Architecture& find_architecture(std::string_view name, std::string_view source_name) {
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return architecture;
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  throw LoadError(std::string(source_name) + ": unknown architecture '" +
                  std::string(name.substr(0, 100)) + "'; known: " + known);
}

std::unique_ptr<Model> load_model(const std::filesystem::path& model, Backend& backend,
                                  const MobaConfig* moba, WeightFormat format,
                                  const LoadOptions& options) {
  ModelConfig config = load_model_config(model);
  if (moba != nullptr) config.moba = *moba;
  check_moba_config(config);
  const int32_t max_model_len =
      options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  if (config.sliding_window >= max_model_len) {  // no sequence is longer
    config.sliding_window = 0;
    config.windowed_layers.clear();
  }
  const Architecture& architecture = find_architecture(config.architecture, model.string());
  auto weights = std::make_unique<WeightStore>(model, config.fp8);
  return architecture.make(std::move(config), std::move(weights), format, backend, options);
}

}  // namespace quire
