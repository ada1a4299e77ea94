#include "models/model_registry.h"

#include <array>
#include <string>
#include <utility>

#include "models/llama.h"

namespace quire {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"LlamaForCausalLM", make_llama},
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
  const Architecture& architecture = find_architecture(config.architecture, model.string());
  return architecture.make(std::move(config), std::make_unique<WeightStore>(model), format, backend,
                           options);
}

}  // namespace quire
