#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/metrics.h"
#include "engine/engine_config.h"
#include "engine/kv_cache/kv_cache_manager.h"
#include "engine/runner/step_runner.h"
#include "engine/scheduler/sequence.h"
#include "engine/scheduler/step_pacer.h"
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
///
/// Sequences rank by priority, then by arrival. Policy, in the order of one plan:
///  1. Every running decode gets one token. One that finds no block preempts the running sequence
///     of the last rank, itself if it is that one.
///  2. Waiting sequences are admitted by rank while they fit: all blocks of their tokens are
///     reserved at once, and one spare block per running sequence must be left, so that admission
///     does not force a preemption at once. The first that does not fit stops admission, so a
///     large one is not overtaken forever.
///     Two things are let past without stopping: a long prefill while kMaxLongPrefills of its own
///     or a higher class run, and a sequence whose next block another one of its own or a higher
///     class is computing right now; it waits for that block instead of computing it again, and
///     goes on by itself should the other one be preempted or cancelled.
///  3. What the decodes left of the token budget goes to prefills by priority class; within a class
///     it is shared evenly, and what a short prompt does not need flows on. So a short prompt is
///     read in a few steps beside a million-token one, and a million-token one gets its share
///     beside any number of short ones. Between classes priority is strict.
///  4. While somebody waits for a token of every step (a decode, or a short prompt beside a long
///     one), prefills get no more of the budget than StepPacer allows, so that a step lasts about
///     max_step_seconds. Long prompts alone get ten times as long: large steps are cheaper, and who
///     comes meanwhile waits for one at most. How a prompt is cut never changes a token.
///
/// Before all that, a sequence whose next token makes it longer than rope_switch_len changes its
/// rope set: its keys are those of the other set, so it gives its blocks back and is recomputed, as
/// if it had been preempted. That happens once in its life, for a sequence never gets shorter.
///
/// A preempted sequence keeps its rank, so it stands at the front of those of its class that have
/// not run. It is recomputed; the random stream and the attention of each phase are kept, so its
/// tokens are the same. A sequence that fits the pool always finishes: the first rank is never
/// preempted while another one runs, and alone it has the pool.
class Scheduler {
 public:
  /// REQUIRES: max_step_tokens >= max_num_seqs, and max_model_len fits the pool.
  Scheduler(const EngineConfig& config, KvCacheManager& cache, const Clock& clock,
            EngineMetrics& metrics);

  void add(std::unique_ptr<Sequence> sequence);

  /// Takes the sequence out wherever it is and gives its blocks back. Null if unknown (finished
  /// already). REQUIRES: not between plan_step and finish_step.
  std::unique_ptr<Sequence> remove(SequenceId id);

  /// Sequences whose deadline has passed, removed.
  std::vector<std::unique_ptr<Sequence>> remove_expired();

  StepPlan plan_step();

  /// How long the planned step took, for rule 4. Between plan_step and finish_step.
  void note_duration(const StepPlan& plan, double seconds);

  /// The step succeeded: commits blocks, appends sampled tokens (in plan order, one per entry that
  /// samples), decides who is finished. Updates are valid until the next call; finished sequences
  /// have given back their blocks and are handed over by take_finished.
  std::span<const SequenceUpdate> finish_step(const StepPlan& plan,
                                              std::span<const SampledToken> sampled);

  /// The step failed: its sequences are removed, their blocks freed without being published.
  std::vector<std::unique_ptr<Sequence>> fail_step(const StepPlan& plan);

  std::vector<std::unique_ptr<Sequence>> take_finished();
  std::vector<std::unique_ptr<Sequence>> remove_all();

  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  /// Sequences that stand before this one in the waiting queue; nullopt if it does not wait.
  std::optional<int32_t> queue_position(SequenceId id) const;

  /// All sequences that hold or may hold blocks, for KvCacheManager::check_integrity.
  std::vector<const Sequence*> live_sequences() const;

  static constexpr int32_t kMaxLongPrefills = 4;
  static constexpr int32_t kMaxAdmissionScan = 64;  // waiting sequences looked at per step

 private:
  /// Priority, then arrival: the order of everything. Sequence ids grow with arrival.
  using Rank = std::pair<int32_t, SequenceId>;
  using Queue = std::map<Rank, std::unique_ptr<Sequence>>;

  static Rank rank_of(const Sequence& sequence) { return {sequence.request.priority, sequence.id}; }
  void resolve_attention(Sequence& sequence) const;
  /// Of all positions of a sequence of so many tokens.
  int32_t rope_set_of(int32_t num_tokens) const {
    return config_.rope_switch_len > 0 && num_tokens > config_.rope_switch_len ? 1 : 0;
  }
  void switch_rope_sets(StepPlan& plan);
  void plan_decodes(StepPlan& plan, int32_t& budget);
  void plan_prefills(StepPlan& plan, int32_t& budget);
  bool is_awaited(const StepPlan& plan, std::span<Sequence* const> prefills) const;
  void share_budget(std::span<Sequence*> prefills, StepPlan& plan, int32_t& budget);
  void admit();
  bool must_wait(Sequence& waiting, const CachedPrefix& cached);
  bool try_start(Sequence& sequence, const CachedPrefix& cached);
  bool is_long(int32_t num_prefill_tokens) const;
  void preempt(Sequence& victim, StepPlan& plan);
  void put_back(Sequence& sequence);
  ScheduledSequence schedule(Sequence& sequence, int32_t num_tokens) const;
  int32_t max_chunk(const Sequence& sequence) const;
  void account_attention(Sequence& sequence, const ScheduledSequence& entry);
  std::optional<FinishReason> finish_reason(const Sequence& sequence, TokenId token) const;
  void update_gauges();

  const EngineConfig config_;
  KvCacheManager& cache_;
  const Clock& clock_;
  EngineMetrics& metrics_;
  Queue waiting_;
  Queue running_;
  std::unordered_map<SequenceId, Rank> ranks_;  // of all waiting and running sequences
  std::vector<std::unique_ptr<Sequence>> finished_;
  std::vector<SequenceUpdate> updates_;
  StepPacer pacer_;
};

}  // namespace quire
