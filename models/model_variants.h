#pragma once

#include <vector>

#include "models/model_config.h"
#include "models/strict_json.h"

namespace quire {

/// What tells the members of the Llama family apart: biases, norms of heads, fused projections,
/// windows, layers without rotation, as the architecture's name and the fields that
/// transformers reads for it say. config.architecture, num_layers and head_dim are set. Throws
/// LoadError naming the key.
void parse_variant(const JsonFields& fields, ModelConfig& config);

/// Throws LoadError for a field that changes the mathematics of some relative of Llama and that
/// this architecture does not compute. Absent and null always mean "not used".
void refuse_foreign_mathematics(const JsonFields& fields, const ModelConfig& config);

}  // namespace quire
