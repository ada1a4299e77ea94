#pragma once

#include "engine/core/status.h"
#include "engine/engine_config.h"
#include "engine/engine_request.h"

namespace quire {

/// Whether the engine can run this request: what it would otherwise index, allocate or wait with.
/// Any thread; costs one pass over the prompt. kInvalidArgument names the field at fault.
Status check_request(const EngineRequest& request, const EngineConfig& config);

/// Throws std::invalid_argument for settings under which some valid request could never finish.
void check_config(const EngineConfig& config);

}  // namespace quire
