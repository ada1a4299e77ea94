#include "engine/sampling/logits_processors.h"

#include <limits>

#include "kernels/check.h"

namespace quire {
namespace {

float& logit_of(TokenId token, std::span<float> logits) {
  QUIRE_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size())
      << "token " << token << " outside a vocabulary of " << logits.size();
  return logits[static_cast<size_t>(token)];
}

}  // namespace

void TokenCounts::catch_up(std::span<const TokenId> tokens, int32_t num_prompt_tokens) {
  QUIRE_CHECK(tokens.size() >= num_counted_)
      << tokens.size() << " tokens after " << num_counted_ << " were counted";
  for (; num_counted_ < tokens.size(); ++num_counted_) {
    const TokenId token = tokens[num_counted_];
    QUIRE_CHECK(token >= 0 && static_cast<size_t>(token) < seen_.size())
        << "token " << token << " outside a vocabulary of " << seen_.size();
    if (!seen_[static_cast<size_t>(token)]) {
      seen_[static_cast<size_t>(token)] = true;
      distinct_.push_back(token);
    }
    if (num_counted_ >= static_cast<size_t>(num_prompt_tokens)) ++in_completion_[token];
  }
}

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.frequency_penalty != 0.0f ||
         params.presence_penalty != 0.0f;
}

void apply_penalties(const SamplingParams& params, const TokenCounts& counts,
                     std::span<float> logits) {
  if (params.repetition_penalty != 1.0f) {
    for (const TokenId token : counts.distinct()) {
      float& logit = logit_of(token, logits);
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
  }
  if (params.frequency_penalty != 0.0f || params.presence_penalty != 0.0f) {
    for (const auto& [token, count] : counts.in_completion()) {
      logit_of(token, logits) -=
          params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
    }
  }
}

void apply_logit_bias(std::span<const std::pair<TokenId, float>> logit_bias,
                      std::span<float> logits) {
  for (const auto& [token, bias] : logit_bias) logit_of(token, logits) += bias;
}

void ban_tokens(std::span<const TokenId> tokens, std::span<float> logits) {
  for (const TokenId token : tokens) {
    logit_of(token, logits) = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace quire
