#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/metrics.h"
#include "engine/engine_config.h"
#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/runner/step_runner.h"
#include "engine/scheduler/scheduler.h"

namespace quire {

/// The engine without its thread: what one turn does, in order, and what its sequences hear of it.
/// Engine waits, takes messages and calls this; nothing here waits or locks.
///
/// Every sequence that comes in through `admit` hears QueuedEvent first and FinishEvent last,
/// exactly once, whatever happens in between. Engine thread only.
class EngineCore {
 public:
  /// All four must outlive the core.
  EngineCore(const EngineConfig& config, StepRunner& runner, const Clock& clock,
             EngineMetrics& metrics);

  void admit(std::unique_ptr<Sequence> sequence);
  void cancel(SequenceId id);

  /// Expires deadlines, plans, runs at most one step, reports it. Returns whether anything
  /// happened. Failures of a step end that step's sequences; the third in a row ends everything.
  bool turn();

  void finish_all(FinishReason reason, const Status& status);

  /// Recounts every block against every sequence; throws ContractError. For tests, between turns.
  void check_integrity() const { cache_.check_integrity(scheduler_.live_sequences()); }

  bool is_empty() const { return scheduler_.num_waiting() + scheduler_.num_running() == 0; }
  /// False once and for all after repeated failures.
  bool is_healthy() const { return is_healthy_; }

 private:
  bool expire();
  void run_step(const StepPlan& plan);
  void report(const SequenceUpdate& update, Clock::TimePoint now);
  void fail_step(const StepPlan& plan, std::string_view what);
  void lose_trust(const std::exception& error);
  void become_unhealthy();
  static Status unhealthy_status();
  void finish(Sequence& sequence, FinishReason reason, const Status& status);
  void note_turn();

  StepRunner& runner_;
  const Clock& clock_;
  EngineMetrics& metrics_;
  KvCacheManager cache_;
  Scheduler scheduler_;
  int num_failures_in_a_row_ = 0;
  bool is_healthy_ = true;
};

}  // namespace quire
