#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/metrics.h"
#include "engine/engine_config.h"
#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/runner/step_runner.h"
#include "engine/scheduler/sequence.h"
#include "engine/scheduler/step_plan.h"

namespace quire {

/// What a finished step meant for one sequence.
struct SequenceUpdate {
  Sequence* sequence = nullptr;
  const SampledToken* token = nullptr;  // null after a prefill chunk that did not sample
  std::optional<FinishReason> finished;
};

/// Continuous batching as pure bookkeeping: no device, no I/O, no clock but the injected one. Ask
/// before doing: a plan only holds what has blocks. Engine thread only.
class Scheduler {
 public:
  Scheduler(const EngineConfig& config, KvCacheManager& cache, const Clock& clock,
            EngineMetrics& metrics);

  void add(std::unique_ptr<Sequence> sequence);

  /// Takes the sequence out wherever it is and gives its blocks back. Null if unknown (finished
  /// already). REQUIRES: not between plan_step and finish_step.
  std::unique_ptr<Sequence> remove(SequenceId id);

  /// Sequences whose deadline has passed, removed.
  std::vector<std::unique_ptr<Sequence>> remove_expired();

  /// Decodes first, then prefill chunks in order of priority and arrival, under
  /// config.max_step_tokens; admits waiting sequences while blocks last; preempts the running
  /// sequence of lowest priority (latest arrival) when a decode finds no block.
  StepPlan plan_step();

  /// The step succeeded: commits blocks, appends sampled tokens (in plan order, one per entry that
  /// samples), decides who is finished. Updates are valid until the next call; finished sequences
  /// have given back their blocks and are handed over by take_finished.
  std::span<const SequenceUpdate> finish_step(const StepPlan& plan,
                                              std::span<const SampledToken> sampled);

  /// The step failed: its sequences are removed, their blocks freed without being published.
  std::vector<std::unique_ptr<Sequence>> fail_step(const StepPlan& plan);

  std::vector<std::unique_ptr<Sequence>> take_finished();
  std::vector<std::unique_ptr<Sequence>> remove_all();

  int32_t num_waiting() const;
  int32_t num_running() const;
  /// Sequences that stand before this one in the waiting queue; nullopt if it does not wait.
  std::optional<int32_t> queue_position(SequenceId id) const;
};

}  // namespace quire
