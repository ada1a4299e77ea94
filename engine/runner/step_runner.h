#pragma once

#include <span>
#include <vector>

#include "engine/core/ids.h"
#include "engine/engine_request.h"
#include "engine/scheduler/step_plan.h"

namespace quire {

struct SampledToken {
  SequenceId sequence{};
  TokenId token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top_logprobs;
};

/// Executes a step plan. ModelRunner is the real one; tests put a fake model behind it. Engine
/// thread only.
class StepRunner {
 public:
  virtual ~StepRunner() = default;

  /// Computes the planned tokens and samples one token for every entry that samples, in plan order.
  /// The result is valid until the next call. Throws DeviceError or ContractError; the cache then
  /// holds nothing of this step that anyone may read.
  virtual std::span<const SampledToken> run_step(const StepPlan& plan) = 0;

  /// The sequence is gone; forget what was kept for it (penalty counts, random stream).
  virtual void forget(SequenceId) {}
};

}  // namespace quire
