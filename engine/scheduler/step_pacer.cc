#include "engine/scheduler/step_pacer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace quire {

int StepPacer::index_of(int32_t depth) {
  return std::bit_width(static_cast<uint32_t>(std::max(depth, 0) / kShallow));
}

/// Of a depth that was never seen: that of the next shallower one, doubled with every doubling of
/// the depth as full attention would have it. Wrong guesses last one step.
double StepPacer::expected_cost(int index) const {
  for (int i = index; i >= 0; --i) {
    const double cost = seconds_per_token_[static_cast<size_t>(i)];
    if (cost > 0) return std::ldexp(cost, index - i);
  }
  const auto deeper = std::find_if(seconds_per_token_.begin() + index, seconds_per_token_.end(),
                                   [](double cost) { return cost > 0; });
  return deeper == seconds_per_token_.end() ? 0 : *deeper;
}

int32_t StepPacer::max_prefill_tokens(int32_t depth, Company company) const {
  constexpr int32_t kUnlimited = std::numeric_limits<int32_t>::max();
  if (max_seconds_ <= 0) return kUnlimited;
  const int32_t factor = company == Company::kAlone ? kAloneFactor : 1;
  const double cost = expected_cost(index_of(depth));
  if (cost <= 0) return kFirstTokens * factor;
  const double num_tokens = max_seconds_ * factor / cost;
  return num_tokens >= kUnlimited ? kUnlimited
                                  : std::max(static_cast<int32_t>(num_tokens), kMinTokens);
}

void StepPacer::observe(int32_t depth, int32_t num_prefill_tokens, double seconds) {
  if (max_seconds_ <= 0 || num_prefill_tokens <= 0 || !(seconds > 0)) return;
  const double cost = seconds / num_prefill_tokens;
  double& known = seconds_per_token_[static_cast<size_t>(index_of(depth))];
  known = known == 0 || cost > known ? cost : known + kTrustInCheaper * (cost - known);
}

}  // namespace quire
