#pragma once

#include "models/model_config.h"
#include "models/weights/gguf.h"

namespace quire {

/// The architecture that a GGUF's metadata describes. It is put into the words of a config.json and
/// goes through parse_model_config, so that the same bounds hold and the same fields are refused.
/// On top of that, every key of the architecture's own and every tensor must be one that is known:
/// what nobody reads here could change the mathematics. Throws LoadError naming file and key.
///
/// `quire.moba`, a string, may hold the `moba` section as JSON.
ModelConfig parse_gguf_config(const GgufContents& contents);

}  // namespace quire
