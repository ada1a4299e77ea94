#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "engine/core/mailbox.h"
#include "engine/engine_core.h"
#include "engine/request_check.h"

namespace quire {
namespace {

/// The longest sleep of an idle engine. Whoever judges its health by the age of its last turn
/// must be able to tell idle from stuck.
constexpr std::chrono::milliseconds kIdleWait{1000};
/// Sleep while sequences exist and none can run.
constexpr std::chrono::milliseconds kBlockedWait{5};

struct SubmitMessage {
  std::unique_ptr<Sequence> sequence;
};
struct CancelMessage {
  SequenceId id{};
};
struct DrainMessage {
  Clock::TimePoint deadline;
};
using Message = std::variant<SubmitMessage, CancelMessage, DrainMessage>;

Status stopping_status() { return Status(StatusCode::kUnavailable, "the engine is shutting down"); }

uint64_t draw_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

struct Engine::Impl {
  Impl(const EngineConfig& engine_config, StepRunner& runner, const Clock& engine_clock,
       EngineMetrics& metrics)
      : config(engine_config), clock(engine_clock), core(config, runner, clock, metrics) {}

  bool take_mail();
  bool must_stop() const;
  void run();
  void end();

  const EngineConfig config;
  const Clock& clock;
  Mailbox<Message> mailbox;
  std::atomic<uint64_t> next_id{1};
  std::atomic<bool> is_draining{false};
  std::atomic<bool> is_healthy{true};

  // The engine thread's; the caller's of step() and drain_and_stop() where there is no thread.
  EngineCore core;
  std::optional<Clock::TimePoint> drain_deadline;

  std::mutex thread_mutex;  // one caller at a time starts or joins
  std::thread thread;
  bool has_ended = false;  // under thread_mutex, or the engine thread's while there is one
};

/// Handles every message that has arrived, in order.
bool Engine::Impl::take_mail() {
  std::vector<Message> messages = mailbox.take_all();
  for (Message& message : messages) {
    if (auto* submitted = std::get_if<SubmitMessage>(&message)) {
      core.admit(std::move(submitted->sequence));
    } else if (const auto* cancelled = std::get_if<CancelMessage>(&message)) {
      core.cancel(cancelled->id);
    } else {
      const Clock::TimePoint deadline = std::get<DrainMessage>(message).deadline;
      drain_deadline = drain_deadline ? std::min(*drain_deadline, deadline) : deadline;
    }
  }
  return !messages.empty();
}

bool Engine::Impl::must_stop() const {
  return drain_deadline && (core.is_empty() || clock.now() >= *drain_deadline);
}

void Engine::Impl::run() {
  bool worked = true;
  for (;;) {
    if (!worked) mailbox.wait_for(core.is_empty() ? kIdleWait : kBlockedWait);
    const bool had_mail = take_mail();
    if (must_stop()) break;
    worked = core.turn() || had_mail;
    is_healthy = core.is_healthy();
  }
  end();
}

/// No sequence is left unanswered: what slipped into the mailbox before it closed is taken too.
void Engine::Impl::end() {
  mailbox.close();
  take_mail();
  core.finish_all(FinishReason::kCancelled, stopping_status());
  has_ended = true;
}

Engine::Engine(const EngineConfig& config, StepRunner& runner, const Clock& clock,
               EngineMetrics& metrics) {
  check_config(config);
  impl_ = std::make_unique<Impl>(config, runner, clock, metrics);
}

Engine::~Engine() { drain_and_stop(Clock::TimePoint::min()); }

Result<SequenceId> Engine::submit(EngineRequest request, std::shared_ptr<EventSink> sink) {
  QUIRE_CHECK(sink != nullptr) << "a request without a sink";
  if (is_draining()) return stopping_status();
  if (!is_healthy()) {
    return Status(StatusCode::kUnavailable, "the engine has failed and must be restarted");
  }
  if (Status status = check_request(request, impl_->config); !status.ok()) return status;
  if (request.sampling.temperature > 0 && !request.sampling.seed) {
    request.sampling.seed = draw_seed();
  }
  auto sequence = std::make_unique<Sequence>();
  const auto id = static_cast<SequenceId>(impl_->next_id.fetch_add(1));
  sequence->id = id;
  sequence->tokens = std::move(request.prompt);
  sequence->num_prompt_tokens = sequence->num_tokens();
  sequence->request = std::move(request);
  sequence->sink = std::move(sink);
  sequence->submitted_at = impl_->clock.now();
  if (!impl_->mailbox.post(SubmitMessage{std::move(sequence)})) return stopping_status();
  return id;
}

void Engine::cancel(SequenceId id) noexcept { impl_->mailbox.post(CancelMessage{id}); }

void Engine::start() {
  const std::lock_guard lock(impl_->thread_mutex);
  QUIRE_CHECK(!impl_->thread.joinable() && !impl_->has_ended) << "an engine starts once";
  impl_->thread = std::thread([this] { impl_->run(); });
}

void Engine::drain_and_stop(Clock::TimePoint deadline) {
  impl_->is_draining = true;
  impl_->mailbox.post(DrainMessage{deadline});
  const std::lock_guard lock(impl_->thread_mutex);
  if (impl_->thread.joinable()) {
    impl_->thread.join();
  } else if (!impl_->has_ended) {
    impl_->run();
  }
}

bool Engine::step() {
  const bool had_mail = impl_->take_mail();
  const bool worked = impl_->core.turn();
  impl_->is_healthy = impl_->core.is_healthy();
  return worked || had_mail;
}

void Engine::check_integrity() const { impl_->core.check_integrity(); }

bool Engine::is_healthy() const { return impl_->is_healthy; }
bool Engine::is_draining() const { return impl_->is_draining; }

}  // namespace quire
