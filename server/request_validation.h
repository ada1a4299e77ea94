#pragma once

#include <cstdint>
#include <string>

#include "engine/core/status.h"
#include "server/inference_service.h"
#include "server/request.h"

namespace quire {

/// Everything about a request that can be judged without tokenising it: the range of every number,
/// the number of choices, a completion longer than the context. One place for both protocols, so
/// that they refuse the same things in the same words. kInvalidArgument with the field as param.
Status validate(const GenerateRequest& request, const ServiceConfig& config, int32_t vocab_size);

/// kNotFound (detail "model_not_found") unless `model` is served. Empty means the served one.
Status check_served(const ServiceConfig& config, const std::string& model);

/// The name that an answer carries: `model` where it is one of ours, else the served one's, so that
/// nobody takes an answer for that of a model which is not here.
const std::string& name_in_answer(const ServiceConfig& config, const std::string& model);

/// Choices the request makes: n for each prompt. Saturates: n may be out of range.
int64_t num_choices(const GenerateRequest& request);

/// Tokens to count before the text is tokenised: about 3 bytes a token, and the completions asked
/// for.
int64_t estimate_tokens(const GenerateRequest& request);

}  // namespace quire
