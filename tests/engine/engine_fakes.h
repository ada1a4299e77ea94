#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "engine/core/clock.h"
#include "engine/engine_request.h"
#include "engine/runner/step_runner.h"
#include "engine/scheduler/sequence.h"

namespace quire {

/// Stands still until it is turned.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance(std::chrono::milliseconds duration) { now_ += duration; }

 private:
  TimePoint now_{std::chrono::hours(1)};
};

/// A model that answers with its position: the token sampled after p tokens is p.
class FakeRunner final : public StepRunner {
 public:
  std::span<const SampledToken> run_step(const StepPlan& plan) override {
    ++num_steps;
    if (on_step) on_step(plan);
    sampled_.clear();
    for (const ScheduledSequence& entry : plan.sequences) {
      const Sequence& sequence = *entry.sequence;
      if (sequence.request.sampling.seed) seeds[sequence.id] = *sequence.request.sampling.seed;
      if (!entry.samples) continue;
      SampledToken token;
      token.sequence = sequence.id;
      token.token = sequence.num_tokens();
      token.logprob = -1.0f;
      token.top_logprobs = {{token.token, -1.0f}};
      sampled_.push_back(std::move(token));
    }
    return sampled_;
  }
  void forget(SequenceId id) override { ++num_forgotten[id]; }

  std::function<void(const StepPlan&)> on_step;  // may throw
  int num_steps = 0;
  std::map<SequenceId, int> num_forgotten;
  std::map<SequenceId, uint64_t> seeds;

 private:
  std::vector<SampledToken> sampled_;
};

/// Keeps what it hears. Any thread may wait for the end and look afterwards.
class RecordingSink final : public EventSink {
 public:
  void on_event(EngineEvent event) noexcept override {
    if (on_each) on_each(event);
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_all();
  }

  std::vector<EngineEvent> events() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  template <class Event>
  std::vector<Event> all() const {
    std::vector<Event> found;
    for (const EngineEvent& event : events()) {
      if (const auto* one = std::get_if<Event>(&event)) found.push_back(*one);
    }
    return found;
  }
  std::vector<TokenId> tokens() const {
    std::vector<TokenId> ids;
    for (const TokenEvent& event : all<TokenEvent>()) ids.push_back(event.token);
    return ids;
  }
  bool is_finished() const { return !all<FinishEvent>().empty(); }
  FinishEvent finish() const { return all<FinishEvent>().at(0); }

  void wait_for_finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return !events_.empty() && std::holds_alternative<FinishEvent>(events_.back());
    });
  }
  void wait_for_token() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return !events_.empty() && (std::holds_alternative<TokenEvent>(events_.back()) ||
                                  std::holds_alternative<FinishEvent>(events_.back()));
    });
  }

  std::function<void(const EngineEvent&)> on_each;  // set before the sink is handed over

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<EngineEvent> events_;
};

}  // namespace quire
