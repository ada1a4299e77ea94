#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/model.h"
#include "server/server_config.h"
#include "server/serving_plan.h"

namespace quire {

/// What somebody who starts the server wants to know: model, context, KV pool, attention, auth.
/// Several lines.
std::string make_banner(const ServerConfig& config, const ServingPlan& plan, const Model& model,
                        const Backend& backend);

/// "0, 25-27" of ascending layers.
std::string layers_text(const std::vector<int32_t>& layers);
/// "1.50 GiB".
std::string format_bytes(int64_t num_bytes);
/// "1,048,576".
std::string format_count(int64_t count);

}  // namespace quire
