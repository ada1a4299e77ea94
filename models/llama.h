#pragma once

#include <memory>

#include "models/model.h"
#include "models/weights/weight_store.h"

namespace quire {

/// The Llama family: pre-norm, grouped-query attention with rotary embedding, SwiGLU; bf16 weights,
/// f32 residual stream. What Mistral, Qwen2, Qwen3, Phi-3 and SmolLM3 do otherwise are fields of
/// the config. Reads Hugging Face's tensor names (models/README.md lists them) and throws LoadError
/// for one that is missing or of another shape.
std::unique_ptr<Model> make_llama(ModelConfig config, std::unique_ptr<WeightStore> weights,
                                  WeightFormat format, Backend& backend,
                                  const LoadOptions& options);

}  // namespace quire
