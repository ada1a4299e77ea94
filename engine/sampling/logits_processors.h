#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/ids.h"
#include "engine/sampling/sampling_params.h"

namespace quire {

// What changes a row of logits before a token is chosen from it, applied in this order:
//   1. repetition penalty r, every distinct token of prompt and completion:
//        logit > 0 ? logit / r : logit * r
//   2. frequency and presence penalties, every distinct token of the completion:
//        logit -= frequency_penalty * count + presence_penalty
//   3. logit_bias, added
//   4. banned tokens (min_new_tokens keeps end-of-sequence impossible): -inf
// Each works on a host row [vocab_size] f32 and costs the number of tokens it concerns, never the
// vocabulary.

/// How often each token occurs in one sequence, kept up as the sequence grows.
class TokenCounts {
 public:
  explicit TokenCounts(int32_t vocab_size) : seen_(static_cast<size_t>(vocab_size), false) {}

  /// Counts the tokens that were appended since the last call: the first time all of them, later
  /// one per step. `tokens` is prompt and completion. REQUIRES: tokens only ever grew at the end.
  void catch_up(std::span<const TokenId> tokens, int32_t num_prompt_tokens);

  /// Distinct tokens of prompt and completion, in order of first occurrence.
  std::span<const TokenId> distinct() const { return distinct_; }
  /// Occurrences in the completion; tokens without any are absent.
  const std::unordered_map<TokenId, int32_t>& in_completion() const { return in_completion_; }

 private:
  std::vector<bool> seen_;  // [vocab_size]
  std::vector<TokenId> distinct_;
  std::unordered_map<TokenId, int32_t> in_completion_;
  size_t num_counted_ = 0;
};

bool has_penalties(const SamplingParams& params);

void apply_penalties(const SamplingParams& params, const TokenCounts& counts,
                     std::span<float> logits);
void apply_logit_bias(std::span<const std::pair<TokenId, float>> logit_bias,
                      std::span<float> logits);
void ban_tokens(std::span<const TokenId> tokens, std::span<float> logits);

}  // namespace quire
