#pragma once

#include <span>
#include <vector>

#include "engine/core/ids.h"
#include "engine/engine_request.h"

namespace quire {

/// Natural-log probabilities of one row of logits [vocab_size], as the model gave it: before
/// penalties, bias, temperature and filters, so that they say what the model thought and not what
/// the request asked for. A NaN logit counts as -inf; sums in f64.
class RowLogprobs {
 public:
  explicit RowLogprobs(std::span<const float> logits);

  float of(TokenId token) const;

  /// The `num_tokens` most probable tokens, descending; equal ones: lower id first. Fewer where the
  /// vocabulary is smaller.
  std::vector<TokenLogprob> top(int num_tokens) const;

 private:
  std::span<const float> logits_;
  // Kept apart: added up, a large maximum would swallow the sum.
  double max_logit_ = 0;
  double log_sum_ = 0;  // of exp(logit - max_logit_)
};

}  // namespace quire
