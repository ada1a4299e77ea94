#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/scheduler/queue_gate.h"
#include "tests/engine/engine_fakes.h"
#include "tests/simulation/random.h"
#include "tests/simulation/scenario.h"
#include "tests/simulation/simulated_client.h"
#include "tests/simulation/simulated_model.h"

namespace quire {

/// What happened, added up: a simulation in which nothing happens proves nothing.
struct Tally {
  int64_t num_steps = 0;
  int64_t num_tokens = 0;
  int64_t num_preemptions = 0;
  int64_t num_restarts = 0;  // with the other rope set
  int64_t num_evictions = 0;
  int64_t num_cached_tokens = 0;
  int64_t num_faults = 0;
  int64_t num_completed = 0;
  int64_t num_cancelled = 0;
  int64_t num_expired = 0;
  int64_t num_queue_full = 0;
  int64_t num_too_long = 0;
  int64_t num_unhealthy = 0;
  int64_t num_drained = 0;
  uint64_t digest = 0;  // of every client's outcome, in order

  Tally& operator+=(const Tally& other);
  friend bool operator==(const Tally&, const Tally&) = default;
};

/// The life of one engine, from one number: the whole engine but its thread and its device, under
/// arrivals, cancels (before, within and after steps), deadlines, clock jumps, failing steps, full
/// queues and full pools. After every step all blocks are recounted; every client knows what it
/// must hear.
class Simulation {
 public:
  explicit Simulation(uint64_t seed);

  Tally run();
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  struct Guest {
    SequenceId id{};
    std::shared_ptr<SimulatedClient> client;
    bool was_cancelled = false;
    bool was_judged = false;
  };

  void step();
  void arrive();
  void cancel_someone();
  SimulatedModel::Fault during_step(const StepPlan& plan);
  std::vector<Guest*> doomed();
  void check_after_step(const std::vector<Guest*>& were_doomed);
  void check_blocks();
  void judge_ends();
  void check_at_end();
  bool is_anyone_left() const;
  void blame(const std::string& what);

  static constexpr int kMaxSteps = 20'000;

  Random random_;
  const Weather weather_;
  Scenario scenario_;
  ManualClock clock_;
  EngineMetrics metrics_;
  SimulatedModel model_;
  std::shared_ptr<QueueGate> gate_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<Guest>> guests_;
  int32_t num_arrived_ = 0;
  int32_t num_steps_ = 0;
  Tally tally_;
  std::vector<std::string> violations_;
};

}  // namespace quire
