#include "engine/engine_core.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <utility>

namespace quire {
namespace {

/// A device that fails this often without one success in between will not recover by itself; an
/// orchestrator that sees the engine unhealthy starts another.
constexpr int kMaxFailuresInARow = 3;

int64_t to_milliseconds(Clock::TimePoint time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

Counter& finished_counter(EngineMetrics& metrics, FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return metrics.finished_stop;
    case FinishReason::kLength:
      return metrics.finished_length;
    case FinishReason::kCancelled:
      return metrics.finished_cancelled;
    case FinishReason::kError:
      break;
  }
  return metrics.finished_error;
}

}  // namespace

EngineCore::EngineCore(const EngineConfig& config, StepRunner& runner, const Clock& clock,
                       EngineMetrics& metrics)
    : runner_(runner),
      clock_(clock),
      metrics_(metrics),
      cache_(config.num_blocks, config.moba.block_size, config.enable_prefix_cache, metrics),
      scheduler_(config, cache_, clock, metrics) {
  note_turn();
}

void EngineCore::admit(std::unique_ptr<Sequence> sequence) {
  if (!is_healthy_) {
    finish(*sequence, FinishReason::kError, unhealthy_status());
    return;
  }
  const SequenceId id = sequence->id;
  const std::shared_ptr<EventSink> sink = sequence->sink;
  try {
    scheduler_.add(std::move(sequence));
  } catch (const std::exception& error) {
    sink->on_event(FinishEvent{FinishReason::kError, unhealthy_status(), {}});
    lose_trust(error);
    return;
  }
  sink->on_event(QueuedEvent{.position = scheduler_.queue_position(id).value_or(0)});
}

void EngineCore::cancel(SequenceId id) {
  if (const std::unique_ptr<Sequence> sequence = scheduler_.remove(id)) {
    finish(*sequence, FinishReason::kCancelled, Status(StatusCode::kCancelled, "cancelled"));
  }
}

void EngineCore::finish_all(FinishReason reason, const Status& status) {
  for (const auto& sequence : scheduler_.remove_all()) finish(*sequence, reason, status);
  note_turn();
}

bool EngineCore::turn() {
  bool worked = false;
  try {
    worked = expire();
    const StepPlan plan = scheduler_.plan_step();
    if (!plan.empty()) {
      worked = true;
      run_step(plan);
    }
  } catch (const std::exception& error) {
    lose_trust(error);
  }
  note_turn();
  return worked;
}

bool EngineCore::expire() {
  const auto expired = scheduler_.remove_expired();
  for (const auto& sequence : expired) {
    finish(*sequence, FinishReason::kError,
           Status(StatusCode::kDeadlineExceeded, "the request's deadline has passed"));
  }
  return !expired.empty();
}

void EngineCore::run_step(const StepPlan& plan) {
  const Clock::TimePoint started_at = clock_.now();
  std::span<const SampledToken> sampled;
  try {
    sampled = runner_.run_step(plan);
  } catch (const std::exception& error) {
    fail_step(plan, error.what());
    return;
  }
  num_failures_in_a_row_ = 0;
  const Clock::TimePoint now = clock_.now();
  metrics_.steps.add();
  const double seconds = seconds_between(started_at, now);
  metrics_.step_seconds.observe(seconds);
  scheduler_.note_duration(plan, seconds);
  for (const SequenceUpdate& update : scheduler_.finish_step(plan, sampled)) report(update, now);
  scheduler_.take_finished();  // reported above; this ends their lives
}

void EngineCore::report(const SequenceUpdate& update, Clock::TimePoint now) {
  Sequence& sequence = *update.sequence;
  const int32_t num_sampled = update.token != nullptr ? 1 : 0;
  const bool was_prefill_of_prompt = sequence.num_completion_tokens() == num_sampled;
  if (was_prefill_of_prompt && sequence.request.wants_progress) {
    // A finished sequence holds no blocks and has nothing computed any more.
    const int32_t processed =
        num_sampled > 0 ? sequence.num_prompt_tokens : sequence.num_computed_tokens;
    // After a preemption within the prompt it reads again what was reported or cached already.
    if (processed > std::max(sequence.num_reported_tokens, sequence.usage.cached_tokens)) {
      sequence.num_reported_tokens = processed;
      sequence.sink->on_event(ProgressEvent{.processed = processed,
                                            .total = sequence.num_prompt_tokens,
                                            .cached = sequence.usage.cached_tokens});
    }
  }
  if (update.token != nullptr) {
    if (was_prefill_of_prompt) {
      sequence.first_token_at = now;
      metrics_.ttft_seconds.observe(seconds_between(sequence.submitted_at, now));
      metrics_.prefill_seconds.observe(seconds_between(sequence.scheduled_at, now));
    } else {
      metrics_.inter_token_seconds.observe(seconds_between(sequence.last_token_at, now));
    }
    sequence.last_token_at = now;
    sequence.sink->on_event(TokenEvent{.token = update.token->token,
                                       .logprob = update.token->logprob,
                                       .top_logprobs = update.token->top_logprobs});
  }
  if (update.finished) finish(sequence, *update.finished, Status());
}

void EngineCore::fail_step(const StepPlan& plan, std::string_view what) {
  spdlog::error("a step of {} sequences failed: {}", plan.sequences.size(), what);
  metrics_.step_failures.add();
  ++num_failures_in_a_row_;
  // What failed in the machine stays in the log; the client learns that it was not the request.
  const Status status(StatusCode::kInternal, "the engine failed while computing this request");
  for (const auto& sequence : scheduler_.fail_step(plan)) {
    finish(*sequence, FinishReason::kError, status);
  }
  if (num_failures_in_a_row_ >= kMaxFailuresInARow) {
    spdlog::critical("{} steps in a row failed: unhealthy, refusing all requests",
                     num_failures_in_a_row_);
    become_unhealthy();
  }
}

/// Not the device failed but our own bookkeeping: nothing it says can be relied on any more.
void EngineCore::lose_trust(const std::exception& error) {
  spdlog::critical("the engine stops: {}", error.what());
  for (const auto& sequence : scheduler_.take_finished()) {
    finish(*sequence, FinishReason::kError, unhealthy_status());
  }
  become_unhealthy();
}

void EngineCore::become_unhealthy() {
  is_healthy_ = false;
  finish_all(FinishReason::kError, unhealthy_status());
}

Status EngineCore::unhealthy_status() {
  return Status(StatusCode::kUnavailable, "the engine has failed repeatedly and must be restarted");
}

void EngineCore::finish(Sequence& sequence, FinishReason reason, const Status& status) {
  const std::shared_ptr<EventSink> sink = std::exchange(sequence.sink, nullptr);
  if (!sink) return;  // answered before bookkeeping broke
  const Clock::TimePoint now = clock_.now();
  const auto since = [&](Clock::TimePoint from) { return seconds_between(from, now); };
  const bool was_scheduled = sequence.scheduled_at != Clock::TimePoint{};
  const bool had_token = sequence.num_completion_tokens() > 0;
  SequenceUsage& usage = sequence.usage;
  usage.prompt_tokens = sequence.num_prompt_tokens;  // the scheduler's too, once it admits
  if (!was_scheduled) usage.queue_seconds = since(sequence.submitted_at);
  if (had_token) {
    usage.prefill_seconds = seconds_between(sequence.scheduled_at, sequence.first_token_at);
    usage.decode_seconds = since(sequence.first_token_at);
  } else if (was_scheduled) {
    usage.prefill_seconds = since(sequence.scheduled_at);
  }
  metrics_.queue_seconds.observe(usage.queue_seconds);
  metrics_.e2e_seconds.observe(since(sequence.submitted_at));
  finished_counter(metrics_, reason).add();
  runner_.forget(sequence.id);
  sequence.request.queue_ticket.reset();  // of one that was never scheduled
  sink->on_event(FinishEvent{.reason = reason, .status = status, .usage = usage});
}

void EngineCore::note_turn() { metrics_.last_step_ms.set(to_milliseconds(clock_.now())); }

}  // namespace quire
