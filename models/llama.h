#pragma once

#include <memory>

#include "models/model.h"
#include "models/weights/weight_store.h"

namespace quire {

/// The Llama family: pre-norm, grouped-query attention with rotary embedding, SwiGLU, no biases;
/// bf16 weights, f32 residual stream. Reads Hugging Face's tensor names (models/README.md lists
/// them) and throws LoadError for one that is missing or of another shape.
std::unique_ptr<Model> make_llama(ModelConfig config, std::unique_ptr<WeightStore> weights,
                                  WeightFormat format, Backend& backend,
                                  const LoadOptions& options);

}  // namespace quire
