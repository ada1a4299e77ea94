#include "engine/scheduler/scheduler.h"

#include <algorithm>

#include "kernels/check.h"

namespace quire {

Scheduler::Scheduler(const EngineConfig& config, KvCacheManager& cache, const Clock& clock,
                     EngineMetrics& metrics)
    : config_(config),
      cache_(cache),
      clock_(clock),
      metrics_(metrics),
      pacer_(config.max_step_seconds) {
  QUIRE_CHECK(config.max_num_seqs >= 1 && config.max_step_tokens >= config.max_num_seqs)
      << "max_step_tokens=" << config.max_step_tokens << " max_num_seqs=" << config.max_num_seqs;
  QUIRE_CHECK(cache.num_blocks_for(config.max_model_len) <= cache.num_blocks())
      << "max_model_len=" << config.max_model_len << " in " << cache.num_blocks() << " blocks";
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  QUIRE_CHECK(sequence->num_tokens() >= 1) << "an empty prompt";
  QUIRE_CHECK(int64_t{sequence->num_prompt_tokens} + sequence->request.max_new_tokens <=
              config_.max_model_len)
      << "a sequence longer than max_model_len";
  resolve_attention(*sequence);
  sequence->rope_set = rope_set_of(sequence->num_tokens());
  sequence->state = SequenceState::kWaiting;
  const Rank rank = rank_of(*sequence);
  const bool is_new = ranks_.emplace(sequence->id, rank).second;
  QUIRE_CHECK(is_new) << "sequence " << static_cast<uint64_t>(sequence->id) << " was added twice";
  waiting_.emplace(rank, std::move(sequence));
  update_gauges();
}

void Scheduler::resolve_attention(Sequence& sequence) const {
  const AttentionChoice& choice = sequence.request.attention;
  const bool server_is_full = config_.default_attention == AttentionMode::kFull;
  const auto resolve = [&](AttentionMode phase_mode, int32_t phase_top_k) {
    const AttentionMode mode =
        choice.mode.value_or(server_is_full ? AttentionMode::kFull : phase_mode);
    if (mode == AttentionMode::kFull) return PhaseAttention{mode, 0};
    return PhaseAttention{mode, choice.top_k.value_or(phase_top_k)};
  };
  const MobaConfig& moba = config_.moba;
  sequence.prefill_attention = resolve(moba.prefill, moba.top_k);
  sequence.decode_attention = resolve(moba.decode, moba.top_k_of_decode());
}

std::unique_ptr<Sequence> Scheduler::remove(SequenceId id) {
  const auto rank = ranks_.find(id);
  if (rank == ranks_.end()) return nullptr;
  Queue& queue = waiting_.contains(rank->second) ? waiting_ : running_;
  std::unique_ptr<Sequence> sequence = std::move(queue.extract(rank->second).mapped());
  ranks_.erase(rank);
  cache_.release(*sequence);
  sequence->state = SequenceState::kFinished;
  update_gauges();
  return sequence;
}

std::vector<std::unique_ptr<Sequence>> Scheduler::remove_expired() {
  const Clock::TimePoint now = clock_.now();
  std::vector<SequenceId> expired;
  for (const Queue* queue : {&waiting_, &running_}) {
    for (const auto& [rank, sequence] : *queue) {
      if (sequence->request.deadline && *sequence->request.deadline <= now) {
        expired.push_back(sequence->id);
      }
    }
  }
  std::vector<std::unique_ptr<Sequence>> removed;
  for (const SequenceId id : expired) removed.push_back(remove(id));
  return removed;
}

StepPlan Scheduler::plan_step() {
  StepPlan plan;
  int32_t budget = config_.max_step_tokens;
  switch_rope_sets(plan);
  plan_decodes(plan, budget);
  admit();
  plan_prefills(plan, budget);
  std::stable_partition(plan.sequences.begin(), plan.sequences.end(),
                        [](const auto& entry) { return entry.attention == AttentionMode::kMoba; });
  update_gauges();
  return plan;
}

void Scheduler::switch_rope_sets(StepPlan& plan) {
  for (auto next = running_.begin(); next != running_.end();) {
    Sequence& sequence = *(next++)->second;
    const int32_t rope_set = rope_set_of(sequence.num_tokens());
    if (sequence.rope_set == rope_set) continue;
    sequence.rope_set = rope_set;
    sequence.block_hashes.clear();  // their root names the set
    put_back(sequence);
    plan.restarted.push_back(sequence.id);
  }
}

void Scheduler::plan_decodes(StepPlan& plan, int32_t& budget) {
  std::vector<Sequence*> decodes;  // by rank
  for (const auto& [rank, sequence] : running_) {
    if (sequence->is_decoding()) decodes.push_back(sequence.get());
  }
  for (Sequence* sequence : decodes) {
    if (sequence->state != SequenceState::kRunning) break;  // it and all behind it were preempted
    bool has_block = cache_.reserve(*sequence, 1);
    while (!has_block) {
      Sequence& victim = *running_.rbegin()->second;  // of no higher rank, so not in the plan yet
      preempt(victim, plan);
      if (&victim == sequence) break;
      has_block = cache_.reserve(*sequence, 1);
    }
    if (!has_block) break;
    plan.sequences.push_back(schedule(*sequence, 1));
    --budget;
  }
}

void Scheduler::preempt(Sequence& victim, StepPlan& plan) {
  put_back(victim);
  ++victim.usage.num_preemptions;
  metrics_.preemptions.add();
  plan.preempted.push_back(victim.id);
}

/// Into the waiting queue, without blocks.
void Scheduler::put_back(Sequence& sequence) {
  cache_.release(sequence);
  sequence.state = SequenceState::kWaiting;
  waiting_.insert(running_.extract(rank_of(sequence)));
}

void Scheduler::admit() {
  int32_t num_scanned = 0;
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (num_running() >= config_.max_num_seqs || ++num_scanned > kMaxAdmissionScan) return;
    const auto candidate = next++;
    Sequence& sequence = *candidate->second;
    const CachedPrefix cached = cache_.cached_prefix(sequence);
    if (must_wait(sequence, cached)) continue;
    if (!try_start(sequence, cached)) return;
    running_.insert(waiting_.extract(candidate));
  }
}

bool Scheduler::must_wait(Sequence& waiting, const CachedPrefix& cached) {
  int32_t num_long = 0;
  for (const auto& [rank, running] : running_) {
    // A lower class may be starved by the ones between: its prefills are not worth waiting for.
    if (rank.first > waiting.request.priority) break;
    if (running->is_decoding()) continue;
    if (cache_.is_computing_block(*running, waiting, cached.num_blocks)) return true;
    num_long += is_long(running->num_pending_tokens());
  }
  const int32_t num_cached_tokens = cached.num_blocks * cache_.block_size();
  return num_long >= kMaxLongPrefills && is_long(waiting.num_tokens() - num_cached_tokens);
}

/// More than one step's share beside as many long ones as may run.
bool Scheduler::is_long(int32_t num_prefill_tokens) const {
  return num_prefill_tokens > config_.max_step_tokens / (kMaxLongPrefills + 1);
}

bool Scheduler::try_start(Sequence& sequence, const CachedPrefix& cached) {
  if (!cache_.has_room_for(sequence, cached, num_running())) return false;
  const int32_t num_cached = cache_.match_prefix(sequence);
  if (!cache_.reserve(sequence, sequence.num_pending_tokens())) {
    cache_.release(sequence);  // the forecast was wrong: a collision of hashes
    return false;
  }
  sequence.state = SequenceState::kRunning;
  const bool is_first_start = sequence.scheduled_at == Clock::TimePoint{};
  if (is_first_start) {
    sequence.scheduled_at = clock_.now();
    sequence.usage.queue_seconds = seconds_between(sequence.submitted_at, sequence.scheduled_at);
    sequence.usage.prompt_tokens = sequence.num_prompt_tokens;
    sequence.usage.cached_tokens = num_cached;
    sequence.request.queue_ticket.reset();
    metrics_.prompt_tokens.add(static_cast<uint64_t>(sequence.num_prompt_tokens));
    metrics_.prefix_query_tokens.add(static_cast<uint64_t>(sequence.num_prompt_tokens));
    metrics_.prefix_hit_tokens.add(static_cast<uint64_t>(num_cached));
  }
  return true;
}

void Scheduler::plan_prefills(StepPlan& plan, int32_t& budget) {
  // All that runs and has no token yet: prefills, and what was preempted at its newest token and
  // found all others in the cache. Both lists are in order of rank.
  std::vector<Sequence*> prefills;
  auto planned = plan.sequences.begin();
  for (const auto& [rank, sequence] : running_) {
    if (planned != plan.sequences.end() && planned->sequence == sequence.get()) {
      ++planned;
    } else {
      prefills.push_back(sequence.get());
    }
  }
  int32_t depth = 0;
  for (const Sequence* sequence : prefills) {
    depth = std::max(depth, sequence->num_computed_tokens);
  }
  const auto company =
      is_awaited(plan, prefills) ? StepPacer::Company::kAwaited : StepPacer::Company::kAlone;
  budget = std::min(budget, pacer_.max_prefill_tokens(depth, company));
  for (auto first = prefills.begin(); first != prefills.end() && budget > 0;) {
    const int32_t priority = (*first)->request.priority;
    const auto last = std::find_if(first, prefills.end(), [priority](const Sequence* sequence) {
      return sequence->request.priority != priority;
    });
    share_budget({first, last}, plan, budget);
    first = last;
  }
}

/// Whether anybody but long prefills hopes for a token of this step.
bool Scheduler::is_awaited(const StepPlan& plan, std::span<Sequence* const> prefills) const {
  const auto num_short = std::ranges::count_if(prefills, [this](const Sequence* sequence) {
    return !is_long(sequence->num_pending_tokens());
  });
  return !plan.empty() || (num_short > 0 && num_short < std::ssize(prefills));
}

void Scheduler::note_duration(const StepPlan& plan, double seconds) {
  int32_t depth = 0, num_prefill_tokens = 0;
  bool ends_prompts = true;
  for (const ScheduledSequence& entry : plan.sequences) {
    if (entry.sequence->is_decoding()) continue;
    depth = std::max(depth, entry.sequence->num_computed_tokens);
    num_prefill_tokens += entry.num_tokens;
    ends_prompts = ends_prompts && entry.samples;
  }
  // A few tokens at a prompt's end cost what a step costs; by them a large chunk would look dear.
  if (ends_prompts && num_prefill_tokens < StepPacer::kFirstTokens) return;
  pacer_.observe(depth, num_prefill_tokens, seconds);
}

void Scheduler::share_budget(std::span<Sequence*> prefills, StepPlan& plan, int32_t& budget) {
  // Shortest first, each may take an even share of what is left: max-min fairness.
  std::ranges::stable_sort(
      prefills, [this](const auto* a, const auto* b) { return max_chunk(*a) < max_chunk(*b); });
  auto num_left = static_cast<int32_t>(prefills.size());
  for (Sequence* sequence : prefills) {
    const int32_t share = (budget + num_left - 1) / num_left;
    --num_left;
    const int32_t num_tokens = std::min(max_chunk(*sequence), share);
    if (num_tokens == 0) continue;
    QUIRE_CHECK(cache_.reserve(*sequence, num_tokens)) << "blocks were reserved at admission";
    plan.sequences.push_back(schedule(*sequence, num_tokens));
    budget -= num_tokens;
  }
}

int32_t Scheduler::max_chunk(const Sequence& sequence) const {
  const int32_t num_prompt_left = sequence.num_prompt_tokens - sequence.num_computed_tokens;
  const bool phases_differ = sequence.prefill_attention != sequence.decode_attention;
  if (phases_differ && num_prompt_left > 0) return num_prompt_left;
  return sequence.num_pending_tokens();
}

ScheduledSequence Scheduler::schedule(Sequence& sequence, int32_t num_tokens) const {
  const bool is_prompt = sequence.num_computed_tokens < sequence.num_prompt_tokens;
  const PhaseAttention& attention =
      is_prompt ? sequence.prefill_attention : sequence.decode_attention;
  return {.sequence = &sequence,
          .num_tokens = num_tokens,
          .samples = sequence.num_computed_tokens + num_tokens == sequence.num_tokens(),
          .attention = attention.mode,
          .top_k = std::max(attention.top_k, 1)};
}

std::span<const SequenceUpdate> Scheduler::finish_step(const StepPlan& plan,
                                                       std::span<const SampledToken> sampled) {
  updates_.clear();
  size_t next_sample = 0;
  for (const ScheduledSequence& entry : plan.sequences) {
    Sequence& sequence = *entry.sequence;
    const bool was_decoding = sequence.is_decoding();
    account_attention(sequence, entry);
    cache_.commit(sequence, entry.num_tokens);
    if (!was_decoding) metrics_.prefill_tokens.add(static_cast<uint64_t>(entry.num_tokens));
    SequenceUpdate update{.sequence = &sequence, .token = nullptr, .finished = std::nullopt};
    if (entry.samples) {
      QUIRE_CHECK(next_sample < sampled.size() && sampled[next_sample].sequence == sequence.id)
          << "sampled tokens are not in plan order";
      update.token = &sampled[next_sample++];
      sequence.tokens.push_back(update.token->token);
      metrics_.generation_tokens.add();
      ++sequence.usage.completion_tokens;
      update.finished = finish_reason(sequence, update.token->token);
    }
    if (update.finished) finished_.push_back(remove(sequence.id));
    updates_.push_back(update);
  }
  QUIRE_CHECK(next_sample == sampled.size()) << "more sampled tokens than entries that sample";
  update_gauges();
  return updates_;
}

void Scheduler::account_attention(Sequence& sequence, const ScheduledSequence& entry) {
  const auto num_full_layers = static_cast<int64_t>(config_.moba.full_attention_layers.size());
  const bool is_moba = entry.attention == AttentionMode::kMoba;
  const int64_t num_moba_layers = is_moba ? config_.num_layers - num_full_layers : 0;
  int64_t available = 0, selected = 0;
  for (int32_t i = 0; i < entry.num_tokens; ++i) {
    const int64_t position = int64_t{sequence.num_computed_tokens} + i;
    const int64_t num_blocks = position / cache_.block_size() + 1;
    const auto rule = config_.moba.schedule.rule_at(position, entry.top_k);
    // Whole units of history, and the blocks of its own unit up to the token's.
    const int64_t num_own = (num_blocks - 1) % rule.group + 1;
    available += num_blocks;
    selected += std::min(num_blocks, (int64_t{rule.top_k} - 1) * rule.group + num_own);
  }
  const int64_t attended =
      selected * num_moba_layers + available * (config_.num_layers - num_moba_layers);
  sequence.usage.blocks_attended += attended;
  sequence.usage.blocks_available += available * config_.num_layers;
  metrics_.blocks_attended.add(static_cast<uint64_t>(attended));
  metrics_.blocks_available.add(static_cast<uint64_t>(available * config_.num_layers));
}

std::optional<FinishReason> Scheduler::finish_reason(const Sequence& sequence,
                                                     TokenId token) const {
  const EngineRequest& request = sequence.request;
  if (sequence.num_completion_tokens() > request.min_new_tokens &&
      std::ranges::find(request.stop_token_ids, token) != request.stop_token_ids.end()) {
    return FinishReason::kStop;
  }
  if (sequence.num_completion_tokens() >= request.max_new_tokens ||
      sequence.num_tokens() >= config_.max_model_len) {
    return FinishReason::kLength;
  }
  return std::nullopt;
}

std::vector<std::unique_ptr<Sequence>> Scheduler::fail_step(const StepPlan& plan) {
  std::vector<std::unique_ptr<Sequence>> failed;
  for (const ScheduledSequence& entry : plan.sequences) {
    failed.push_back(remove(entry.sequence->id));
  }
  return failed;
}

std::vector<std::unique_ptr<Sequence>> Scheduler::take_finished() {
  return std::exchange(finished_, {});
}

std::vector<std::unique_ptr<Sequence>> Scheduler::remove_all() {
  std::vector<std::unique_ptr<Sequence>> removed;
  for (Queue* queue : {&running_, &waiting_}) {
    while (!queue->empty()) removed.push_back(remove(queue->begin()->second->id));
  }
  return removed;
}

std::optional<int32_t> Scheduler::queue_position(SequenceId id) const {
  const auto rank = ranks_.find(id);
  if (rank == ranks_.end()) return std::nullopt;
  const auto found = waiting_.find(rank->second);
  if (found == waiting_.end()) return std::nullopt;
  // From the back, where those who just came are asked for: a long queue costs them nothing.
  return static_cast<int32_t>(waiting_.size() -
                              static_cast<size_t>(std::distance(found, waiting_.end())));
}

std::vector<const Sequence*> Scheduler::live_sequences() const {
  std::vector<const Sequence*> live;
  for (const Queue* queue : {&waiting_, &running_}) {
    for (const auto& [rank, sequence] : *queue) live.push_back(sequence.get());
  }
  return live;
}

void Scheduler::update_gauges() {
  metrics_.sequences_waiting.set(num_waiting());
  metrics_.sequences_running.set(num_running());
}

}  // namespace quire
