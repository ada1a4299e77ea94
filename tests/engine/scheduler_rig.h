#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "engine/scheduler/scheduler.h"
#include "tests/engine/engine_fakes.h"
#include "tests/engine/sequences.h"

namespace quire {

/// Small enough that a handful of sequences fills it.
inline EngineConfig small_config() {
  EngineConfig config;
  config.moba = {.block_size = 4, .top_k = 2};
  config.num_layers = 3;
  config.vocab_size = 1'000'000;
  config.max_model_len = 64;
  config.num_blocks = 32;
  config.max_num_seqs = 8;
  config.max_step_tokens = 16;
  return config;
}

/// What a plan says of one sequence.
struct Planned {
  uint64_t id;
  int32_t num_tokens;
  friend bool operator==(const Planned&, const Planned&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Planned& planned) {
    return out << planned.id << ':' << planned.num_tokens;
  }
};

/// A scheduler and its cache, stepped by hand; integrity is checked around every step.
struct SchedulerRig {
  explicit SchedulerRig(const EngineConfig& rig_config = small_config(),
                        BlockHasher hasher = hash_block)
      : config(rig_config),
        cache(config.num_blocks, config.moba.block_size, config.enable_prefix_cache, metrics,
              std::move(hasher)),
        scheduler(config, cache, clock, metrics) {}

  Sequence& add(std::unique_ptr<Sequence> sequence) {
    Sequence& added = *sequence;
    scheduler.add(std::move(sequence));
    return added;
  }
  /// Ids of prompts differ from all other sequences' unless `first` says otherwise.
  Sequence& add(uint64_t id, int32_t num_prompt_tokens, int32_t max_new_tokens = 4) {
    return add(
        sequence_of(id, ramp(num_prompt_tokens, static_cast<TokenId>(1000 * id)), max_new_tokens));
  }
  std::vector<Planned> plan() {
    current = scheduler.plan_step();
    check();
    std::vector<Planned> planned;
    for (const ScheduledSequence& entry : current.sequences) {
      planned.push_back({static_cast<uint64_t>(entry.sequence->id), entry.num_tokens});
    }
    return planned;
  }
  /// The sampled token is 500000 + position unless `next_token` is set.
  void finish() {
    std::vector<SampledToken> sampled;
    for (const ScheduledSequence& entry : current.sequences) {
      if (!entry.samples) continue;
      SampledToken token;
      token.sequence = entry.sequence->id;
      token.token = next_token.value_or(500'000 + entry.sequence->num_tokens());
      sampled.push_back(token);
    }
    for (const SequenceUpdate& update : scheduler.finish_step(current, sampled)) {
      if (update.finished) finished[update.sequence->id] = *update.finished;
    }
    for (auto& sequence : scheduler.take_finished()) done[sequence->id] = std::move(sequence);
    check();
  }
  std::vector<Planned> step() {
    std::vector<Planned> planned = plan();
    finish();
    return planned;
  }
  /// Steps until this sequence is finished; the number of steps.
  int run_until_finished(uint64_t id) {
    for (int num_steps = 1; num_steps <= 2000; ++num_steps) {
      step();
      if (finished.contains(SequenceId{id})) return num_steps;
    }
    FAIL("sequence " << id << " does not finish");
    return 0;
  }
  void check() const { cache.check_integrity(scheduler.live_sequences()); }
  const ScheduledSequence& entry(uint64_t id) const {
    const auto found = std::ranges::find_if(
        current.sequences, [id](const auto& e) { return e.sequence->id == SequenceId{id}; });
    REQUIRE(found != current.sequences.end());
    return *found;
  }

  EngineConfig config;
  EngineMetrics metrics;
  ManualClock clock;
  KvCacheManager cache;
  Scheduler scheduler;
  StepPlan current;
  std::optional<TokenId> next_token;
  std::map<SequenceId, FinishReason> finished;
  std::map<SequenceId, std::unique_ptr<Sequence>> done;
};

using Plan = std::vector<Planned>;

}  // namespace quire
