#pragma once

#include <memory>
#include <string_view>

#include "kernels/backend.h"
#include "models/model.h"
#include "models/model_config.h"
#include "models/weights/weight_store.h"

namespace quire {

/// How to build a model whose config.json names `name` under "architectures".
struct Architecture {
  std::string_view name;
  std::unique_ptr<Model> (*make)(ModelConfig config, std::unique_ptr<WeightStore> weights,
                                 WeightFormat format, Backend& backend, const LoadOptions& options);
};

/// The entry of `name`. Throws LoadError, beginning with `source_name` and listing the known
/// architectures, if there is none.
const Architecture& find_architecture(std::string_view name, std::string_view source_name);

}  // namespace quire
