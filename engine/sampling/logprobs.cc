#include "engine/sampling/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace quire {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

float usable(float logit) { return std::isnan(logit) ? kMinusInfinity : logit; }

}  // namespace

RowLogprobs::RowLogprobs(std::span<const float> logits) : logits_(logits) {
  max_logit_ = kMinusInfinity;
  for (const float logit : logits) max_logit_ = std::max(max_logit_, double{usable(logit)});
  if (max_logit_ == kMinusInfinity) return;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{usable(logit)} - max_logit_);
  log_sum_ = std::log(sum);
}

float RowLogprobs::of(TokenId token) const {
  QUIRE_CHECK(token >= 0 && static_cast<size_t>(token) < logits_.size())
      << "token " << token << " outside a vocabulary of " << logits_.size();
  const float logit = usable(logits_[static_cast<size_t>(token)]);
  if (logit == kMinusInfinity) return kMinusInfinity;  // also where the whole row is: no -inf + inf
  return static_cast<float>((double{logit} - max_logit_) - log_sum_);
}

std::vector<TokenLogprob> RowLogprobs::top(int num_tokens) const {
  // Logits order as logprobs do. A heap of the best so far, its worst in front: one pass, and most
  // tokens cost one comparison.
  struct Candidate {
    float logit;
    TokenId token;
  };
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  const size_t num_wanted = std::min(static_cast<size_t>(std::max(num_tokens, 0)), logits_.size());
  std::vector<Candidate> best;
  best.reserve(num_wanted + 1);
  for (size_t i = 0; i < logits_.size() && num_wanted > 0; ++i) {
    const Candidate candidate{usable(logits_[i]), static_cast<TokenId>(i)};
    if (best.size() == num_wanted && !better(candidate, best.front())) continue;
    best.push_back(candidate);
    std::push_heap(best.begin(), best.end(), better);
    if (best.size() > num_wanted) {
      std::pop_heap(best.begin(), best.end(), better);
      best.pop_back();
    }
  }
  std::sort_heap(best.begin(), best.end(), better);

  std::vector<TokenLogprob> top_tokens;
  top_tokens.reserve(best.size());
  for (const Candidate& candidate : best) {
    top_tokens.push_back({candidate.token, of(candidate.token)});
  }
  return top_tokens;
}

}  // namespace quire
