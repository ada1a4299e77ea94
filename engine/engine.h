#pragma once

#include <memory>

#include "engine/core/clock.h"
#include "engine/core/ids.h"
#include "engine/core/metrics.h"
#include "engine/core/status.h"
#include "engine/engine_config.h"
#include "engine/engine_request.h"
#include "engine/runner/step_runner.h"

namespace quire {

/// The engine: one thread that owns all sequences, the scheduler, the cache and the runner. The
/// rest of the world sends it typed messages through a mailbox and hears back through EventSinks.
class Engine {
 public:
  /// `runner`, `clock` and `metrics` must outlive the engine. Throws std::invalid_argument for
  /// settings that cannot work.
  Engine(const EngineConfig& config, StepRunner& runner, const Clock& clock,
         EngineMetrics& metrics);
  ~Engine();  // drains nothing: cancels what is left and joins
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Any thread. Refuses at once (the sink then hears nothing): kInvalidArgument, kUnavailable
  /// while draining or unhealthy. Otherwise every outcome arrives at the sink: a QueuedEvent, then
  /// progress and tokens, and as the last, exactly once, a FinishEvent.
  ///
  /// The mailbox behind it has no bound of its own: what may wait is bounded before it is
  /// tokenised, by the QueueGate, and every message here stands for a ticket from there.
  Result<SequenceId> submit(EngineRequest request, std::shared_ptr<EventSink> sink);

  /// Any thread. Asynchronous, idempotent, unknown ids are ignored. The sequence's blocks are free
  /// within one step.
  void cancel(SequenceId id) noexcept;

  /// Starts the engine thread. Once.
  void start();

  /// Any thread but the engine's. Refuses new sequences from now on; running and waiting ones go
  /// on until `deadline`, then they are cancelled. Returns when the engine thread has ended. Where
  /// start() was never called, the remaining steps run in here. A later call with an earlier
  /// deadline shortens the wait.
  void drain_and_stop(Clock::TimePoint deadline);

  /// One turn without a thread, for tests: takes the mailbox, runs at most one step. Returns
  /// whether anything happened. REQUIRES: start() was not called.
  bool step();

  /// Recounts every block against every sequence; throws ContractError. For tests, beside step().
  void check_integrity() const;

  /// Any thread. False after repeated device failures: the engine only refuses then.
  bool is_healthy() const;
  bool is_draining() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
