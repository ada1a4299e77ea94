#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// How tokens of one sequence are chosen. Ranges are checked where a request is parsed; the engine
/// relies on them.
struct SamplingParams {
  float temperature = 1.0f;         // [0, 2]; 0 = greedy
  float top_p = 1.0f;               // (0, 1]
  int32_t top_k = 0;                // 0 = off
  float min_p = 0.0f;               // [0, 1]
  float presence_penalty = 0.0f;    // [-2, 2]
  float frequency_penalty = 0.0f;   // [-2, 2]
  float repetition_penalty = 1.0f;  // (0, 10], over prompt and completion
  std::optional<uint64_t> seed;     // absent: drawn by the engine, reported nowhere
  std::vector<std::pair<TokenId, float>> logit_bias;  // added to the logits, [-100, 100]
  int32_t num_top_logprobs = -1;  // -1: no logprobs; 0: the chosen token's; up to 20 alternatives
};

}  // namespace quire
