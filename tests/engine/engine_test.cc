#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "tests/engine/engine_fakes.h"

namespace quire {
namespace {

using std::chrono::milliseconds;

EngineConfig small_config() {
  EngineConfig config;
  config.moba.block_size = 4;
  config.moba.top_k = 2;
  config.vocab_size = 1000;
  config.max_model_len = 64;
  config.num_blocks = 32;
  config.max_num_seqs = 4;
  config.max_step_tokens = 8;
  config.max_top_k = 4;
  return config;
}

/// Prompts that share no block: tokens first, first + 1, …
EngineRequest make_request(int32_t num_prompt_tokens, int32_t max_new_tokens, TokenId first = 100) {
  EngineRequest request;
  request.prompt.resize(static_cast<size_t>(num_prompt_tokens));
  std::iota(request.prompt.begin(), request.prompt.end(), first);
  request.max_new_tokens = max_new_tokens;
  request.sampling.temperature = 0;
  return request;
}

/// An engine without a thread, turned by hand.
struct Rig {
  explicit Rig(const EngineConfig& config = small_config()) {
    engine = std::make_unique<Engine>(config, runner, clock, metrics);
  }
  struct Submitted {
    SequenceId id{};
    std::shared_ptr<RecordingSink> sink;
  };
  Submitted submit(EngineRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    const auto id = engine->submit(std::move(request), sink);
    REQUIRE(id.ok());
    return {id.value(), sink};
  }
  void run_until_idle() {
    while (engine->step()) {
    }
  }
  void fail_next_steps(int num_steps) {
    runner.on_step = [num_steps](const StepPlan&) mutable {
      if (num_steps-- > 0) throw DeviceError("matmul: the device is gone");
    };
  }
  void check_nothing_held() const {
    CHECK(metrics.blocks_in_use.value() == 0);
    CHECK(metrics.sequences_running.value() == 0);
    CHECK(metrics.sequences_waiting.value() == 0);
  }

  ManualClock clock;
  EngineMetrics metrics;
  FakeRunner runner;
  std::unique_ptr<Engine> engine;
};

void check_finished_once(const RecordingSink& sink, FinishReason reason, StatusCode code) {
  REQUIRE(sink.all<FinishEvent>().size() == 1);
  CHECK(std::holds_alternative<FinishEvent>(sink.events().back()));
  CHECK(sink.finish().reason == reason);
  CHECK(sink.finish().status.code() == code);
}

template <class Event>
bool is(const EngineEvent& event) {
  return std::holds_alternative<Event>(event);
}

}  // namespace

TEST_CASE("A sequence hears: queued, progress, tokens, finish", "[engine]") {
  Rig rig;
  rig.runner.on_step = [&](const StepPlan&) { rig.clock.advance(milliseconds(250)); };
  EngineRequest request = make_request(20, 3);
  request.wants_progress = true;
  const auto [id, sink] = rig.submit(std::move(request));
  CHECK(sink->events().empty());  // the caller's thread says nothing to the sink
  rig.clock.advance(milliseconds(500));
  rig.run_until_idle();

  const auto events = sink->events();
  REQUIRE(events.size() == 8);
  CHECK(is<QueuedEvent>(events[0]));
  const auto progress = sink->all<ProgressEvent>();  // chunks of 8, 8 and 4 tokens
  REQUIRE(progress.size() == 3);
  CHECK(progress[0].processed == 8);
  CHECK(progress[1].processed == 16);
  CHECK(progress[2].processed == 20);
  CHECK(progress[2].total == 20);
  CHECK(is<ProgressEvent>(events[3]));
  CHECK(is<TokenEvent>(events[4]));
  CHECK(sink->tokens() == std::vector<TokenId>{20, 21, 22});
  check_finished_once(*sink, FinishReason::kLength, StatusCode::kOk);

  const SequenceUsage usage = sink->finish().usage;
  CHECK(usage.prompt_tokens == 20);
  CHECK(usage.completion_tokens == 3);
  CHECK(usage.cached_tokens == 0);
  CHECK(usage.queue_seconds == Approx(0.5));
  CHECK(usage.prefill_seconds == Approx(0.75));
  CHECK(usage.decode_seconds == Approx(0.5));
  CHECK(rig.metrics.ttft_seconds.sum() == Approx(1.25));
  CHECK(rig.metrics.inter_token_seconds.sum() == Approx(0.5));
  CHECK(rig.metrics.e2e_seconds.sum() == Approx(1.75));
  CHECK(rig.metrics.queue_seconds.sum() == Approx(0.5));
  CHECK(rig.metrics.steps.value() == 5);
  CHECK(rig.metrics.finished_length.value() == 1);
  CHECK(rig.runner.num_forgotten[id] == 1);
  rig.check_nothing_held();
}

TEST_CASE("Progress is silent unless asked for and counts cached tokens", "[engine]") {
  Rig rig;
  const auto first = rig.submit(make_request(16, 1));
  rig.run_until_idle();
  CHECK(first.sink->all<ProgressEvent>().empty());

  EngineRequest request = make_request(16, 1);
  request.wants_progress = true;
  const auto second = rig.submit(std::move(request));
  rig.run_until_idle();
  const auto progress = second.sink->all<ProgressEvent>();
  REQUIRE(progress.size() == 1);
  CHECK(progress[0].cached == 12);  // all full blocks but the one that holds the last token
  CHECK(progress[0].processed == 16);
  CHECK(second.sink->finish().usage.cached_tokens == 12);
}

TEST_CASE("A stop token is reported and ends the generation", "[engine]") {
  Rig rig;
  EngineRequest request = make_request(5, 20);
  request.stop_token_ids = {7};
  const auto [id, sink] = rig.submit(std::move(request));
  rig.run_until_idle();
  CHECK(sink->tokens() == std::vector<TokenId>{5, 6, 7});
  check_finished_once(*sink, FinishReason::kStop, StatusCode::kOk);
  CHECK(sink->finish().usage.completion_tokens == 3);
}

TEST_CASE("Queue positions count from the front", "[engine]") {
  Rig rig;
  std::vector<Rig::Submitted> submitted;
  for (int32_t i = 0; i < 3; ++i) submitted.push_back(rig.submit(make_request(4, 1, 100 + i * 50)));
  rig.run_until_idle();
  for (int32_t i = 0; i < 3; ++i) {
    const auto queued = submitted[static_cast<size_t>(i)].sink->all<QueuedEvent>();
    REQUIRE(queued.size() == 1);
    CHECK(queued[0].position == i);
  }
}

TEST_CASE("What cannot run is refused at once and the sink hears nothing", "[engine]") {
  Rig rig;
  std::string message, detail;
  const auto refused = [&](EngineRequest request, const std::string& param) {
    const auto sink = std::make_shared<RecordingSink>();
    const auto id = rig.engine->submit(std::move(request), sink);
    REQUIRE_FALSE(id.ok());
    CHECK(id.status().code() == StatusCode::kInvalidArgument);
    CHECK(id.status().param() == param);
    CHECK(sink->events().empty());
    message = id.status().message();
    detail = id.status().detail();
  };
  refused(make_request(0, 1), "prompt");
  refused(make_request(4, 0), "max_tokens");
  refused(make_request(4, std::numeric_limits<int32_t>::min()), "max_tokens");
  refused(make_request(4, 1, 998), "prompt");  // tokens 998 to 1001 of 1000
  refused(make_request(4, 1, -1), "prompt");

  refused(make_request(60, 5), "prompt");
  CHECK(detail == "context_length_exceeded");
  CHECK(message.find("65") != std::string::npos);
  CHECK(message.find("64") != std::string::npos);
  refused(make_request(4, std::numeric_limits<int32_t>::max()), "prompt");

  EngineRequest request = make_request(4, 2);
  request.attention.top_k = 0;
  refused(std::move(request), "attention.top_k");
  request = make_request(4, 2);
  request.attention.top_k = 5;
  refused(std::move(request), "attention.top_k");
  request = make_request(4, 2);
  request.min_new_tokens = 3;
  refused(std::move(request), "min_tokens");
  request = make_request(4, 2);
  request.stop_token_ids = {1000};
  refused(std::move(request), "stop_token_ids");
  request = make_request(4, 2);
  request.sampling.logit_bias = {{-1, 1.0f}};
  refused(std::move(request), "logit_bias");

  CHECK_FALSE(rig.engine->step());
  const auto good = rig.submit(make_request(60, 4));  // exactly the context
  rig.run_until_idle();
  check_finished_once(*good.sink, FinishReason::kLength, StatusCode::kOk);
}

TEST_CASE("Settings under which a valid request could never finish are refused", "[engine]") {
  ManualClock clock;
  EngineMetrics metrics;
  FakeRunner runner;
  const auto refused = [&](auto change) {
    EngineConfig config = small_config();
    change(config);
    CHECK_THROWS_AS(Engine(config, runner, clock, metrics), std::invalid_argument);
  };
  refused([](EngineConfig& config) { config.num_blocks = 15; });  // 60 tokens of 64
  refused([](EngineConfig& config) { config.vocab_size = 0; });
  refused([](EngineConfig& config) { config.max_step_tokens = 3; });
  refused([](EngineConfig& config) { config.moba.block_size = 0; });
  refused([](EngineConfig& config) { config.max_model_len = 0; });
}

TEST_CASE("Cancel takes effect in every state and answers once", "[engine]") {
  Rig rig;
  const auto cancel_after = [&](int num_turns) {
    const auto submitted = rig.submit(make_request(20, 10));
    for (int turn = 0; turn < num_turns; ++turn) rig.engine->step();
    const size_t num_tokens_before = submitted.sink->tokens().size();
    rig.engine->cancel(submitted.id);
    rig.engine->cancel(submitted.id);
    rig.run_until_idle();
    check_finished_once(*submitted.sink, FinishReason::kCancelled, StatusCode::kCancelled);
    CHECK(submitted.sink->tokens().size() == num_tokens_before);
    CHECK(rig.runner.num_forgotten[submitted.id] == 1);
    rig.check_nothing_held();
  };
  SECTION("in the mailbox") { cancel_after(0); }
  SECTION("in the middle of its prompt") { cancel_after(1); }
  SECTION("decoding") { cancel_after(5); }

  SECTION("waiting behind others") {
    std::vector<Rig::Submitted> running;
    for (int32_t i = 0; i < 4; ++i) running.push_back(rig.submit(make_request(4, 8, 100 + i * 50)));
    while (rig.metrics.sequences_running.value() < 4) rig.engine->step();
    const auto waiting = rig.submit(make_request(4, 8, 500));
    rig.engine->step();
    CHECK(rig.metrics.sequences_waiting.value() == 1);
    rig.engine->cancel(waiting.id);
    rig.engine->step();
    check_finished_once(*waiting.sink, FinishReason::kCancelled, StatusCode::kCancelled);
    rig.run_until_idle();
    for (const auto& one : running) {
      check_finished_once(*one.sink, FinishReason::kLength, StatusCode::kOk);
    }
  }
  SECTION("finished, or never known") {
    const auto [id, sink] = rig.submit(make_request(4, 1));
    rig.run_until_idle();
    rig.engine->cancel(id);
    rig.engine->cancel(SequenceId{12345});
    rig.run_until_idle();
    check_finished_once(*sink, FinishReason::kLength, StatusCode::kOk);
  }
  SECTION("from the sink itself, on its first token") {
    const auto sink = std::make_shared<RecordingSink>();
    SequenceId id{};
    sink->on_each = [&](const EngineEvent& event) {
      if (is<TokenEvent>(event)) rig.engine->cancel(id);
    };
    id = rig.engine->submit(make_request(4, 10), sink).value();
    rig.run_until_idle();
    check_finished_once(*sink, FinishReason::kCancelled, StatusCode::kCancelled);
    CHECK(sink->tokens().size() == 1);
  }
}

TEST_CASE("A deadline ends a sequence wherever it is", "[engine]") {
  Rig rig;
  EngineRequest request = make_request(4, 50);
  request.deadline = rig.clock.now() + milliseconds(100);
  const auto [id, sink] = rig.submit(std::move(request));
  SECTION("before it ran") {
    rig.clock.advance(milliseconds(100));
    rig.run_until_idle();
    CHECK(sink->tokens().empty());
    CHECK(sink->finish().usage.queue_seconds == Approx(0.1));
  }
  SECTION("while it decodes") {
    rig.engine->step();
    rig.engine->step();
    rig.clock.advance(milliseconds(100));
    rig.run_until_idle();
    CHECK(sink->tokens().size() == 2);
  }
  check_finished_once(*sink, FinishReason::kError, StatusCode::kDeadlineExceeded);
  rig.check_nothing_held();
}

TEST_CASE("A failed step fails its own sequences and no others", "[engine]") {
  Rig rig;
  EngineConfig config = small_config();
  config.max_num_seqs = 1;
  rig.engine = std::make_unique<Engine>(config, rig.runner, rig.clock, rig.metrics);
  const auto unlucky = rig.submit(make_request(8, 2));
  const auto waiting = rig.submit(make_request(8, 2, 300));
  rig.engine->step();
  SECTION("device error") {
    rig.runner.on_step = [n = 0](const StepPlan&) mutable {
      if (n++ == 0) throw DeviceError("out of memory");
    };
  }
  SECTION("contract error") {
    rig.runner.on_step = [n = 0](const StepPlan&) mutable { QUIRE_CHECK(n++ > 0) << "broken"; };
  }
  SECTION("host memory") {
    rig.runner.on_step = [n = 0](const StepPlan&) mutable {
      if (n++ == 0) throw std::bad_alloc();
    };
  }
  rig.run_until_idle();
  check_finished_once(*unlucky.sink, FinishReason::kError, StatusCode::kInternal);
  CHECK(unlucky.sink->tokens().size() == 1);
  check_finished_once(*waiting.sink, FinishReason::kLength, StatusCode::kOk);
  CHECK(rig.metrics.step_failures.value() == 1);
  CHECK(rig.engine->is_healthy());
  rig.check_nothing_held();

  // The failed prompt was not published as if it had been computed after the failure.
  const auto again = rig.submit(make_request(8, 2));
  rig.run_until_idle();
  CHECK(again.sink->tokens() == std::vector<TokenId>{8, 9});
}

TEST_CASE("Failures that are not in a row leave the engine healthy", "[engine]") {
  Rig rig;
  rig.runner.on_step = [n = 0](const StepPlan&) mutable {
    if (n++ % 3 != 2) throw DeviceError("flaky");
  };
  for (int32_t i = 0; i < 9; ++i) {
    rig.submit(make_request(4, 1));
    rig.run_until_idle();
  }
  CHECK(rig.metrics.step_failures.value() == 6);
  CHECK(rig.metrics.finished_length.value() == 3);
  CHECK(rig.engine->is_healthy());
}

TEST_CASE("The third failure in a row makes the engine refuse everything", "[engine]") {
  Rig rig;
  EngineConfig config = small_config();
  config.max_num_seqs = 1;
  rig.engine = std::make_unique<Engine>(config, rig.runner, rig.clock, rig.metrics);
  rig.fail_next_steps(3);
  std::vector<Rig::Submitted> submitted;
  for (int32_t i = 0; i < 5; ++i) submitted.push_back(rig.submit(make_request(4, 1, 100 + i * 50)));
  for (int step = 0; step < 3; ++step) rig.engine->step();

  CHECK_FALSE(rig.engine->is_healthy());
  for (size_t i = 0; i < 3; ++i) {
    check_finished_once(*submitted[i].sink, FinishReason::kError, StatusCode::kInternal);
  }
  for (size_t i = 3; i < 5; ++i) {
    check_finished_once(*submitted[i].sink, FinishReason::kError, StatusCode::kUnavailable);
  }
  const auto refused = rig.engine->submit(make_request(4, 1), std::make_shared<RecordingSink>());
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kUnavailable);
  CHECK(rig.runner.num_steps == 3);
  rig.check_nothing_held();
}

TEST_CASE("A runner that answers nonsense stops the engine, with every request answered",
          "[engine]") {
  // A token for the first sequence, which finishes with it, and none for the second.
  class LyingRunner final : public StepRunner {
   public:
    std::span<const SampledToken> run_step(const StepPlan& plan) override {
      token_.sequence = plan.sequences.front().sequence->id;
      return {&token_, 1};
    }

   private:
    SampledToken token_;
  };
  ManualClock clock;
  EngineMetrics metrics;
  LyingRunner runner;
  Engine engine(small_config(), runner, clock, metrics);
  const auto first = std::make_shared<RecordingSink>();
  const auto second = std::make_shared<RecordingSink>();
  REQUIRE(engine.submit(make_request(4, 1), first).ok());
  REQUIRE(engine.submit(make_request(4, 2, 500), second).ok());
  while (engine.step()) {
  }
  CHECK_FALSE(engine.is_healthy());
  check_finished_once(*first, FinishReason::kError, StatusCode::kUnavailable);
  check_finished_once(*second, FinishReason::kError, StatusCode::kUnavailable);
}

TEST_CASE("Queue tickets come back when a sequence first runs, or dies waiting", "[engine]") {
  struct Ticket final : QueueTicket {
    explicit Ticket(int& count) : num_alive(count) { ++num_alive; }
    ~Ticket() override { --num_alive; }
    void correct(int64_t) override {}
    int& num_alive;
  };
  Rig rig;
  int num_alive = 0;
  const auto with_ticket = [&](EngineRequest request) {
    request.queue_ticket = std::make_unique<Ticket>(num_alive);
    return rig.submit(std::move(request));
  };
  const auto runs = with_ticket(make_request(20, 5));
  CHECK(num_alive == 1);
  rig.engine->step();
  CHECK(num_alive == 0);  // three chunks are still to come
  const auto dies = with_ticket(make_request(20, 5, 500));
  rig.engine->cancel(dies.id);
  rig.engine->step();
  CHECK(num_alive == 0);
  CHECK_FALSE(runs.sink->is_finished());
}

TEST_CASE("Every sequence that samples has a seed of its own, a given one is kept", "[engine]") {
  Rig rig;
  const auto with_seed = [&](std::optional<uint64_t> seed) {
    EngineRequest request = make_request(4, 1);
    request.sampling.temperature = 1;
    request.sampling.seed = seed;
    return rig.submit(std::move(request)).id;
  };
  const SequenceId given = with_seed(77);
  const SequenceId drawn = with_seed(std::nullopt);
  const SequenceId other = with_seed(std::nullopt);
  rig.run_until_idle();
  CHECK(rig.runner.seeds.at(given) == 77);
  CHECK(rig.runner.seeds.at(drawn) != rig.runner.seeds.at(other));
}

TEST_CASE("Preempted sequences finish with the same tokens", "[engine]") {
  EngineConfig config = small_config();
  config.num_blocks = 16;  // one full-length sequence: three of 31 tokens cannot coexist
  config.enable_prefix_cache = false;
  Rig rig(config);
  std::vector<Rig::Submitted> submitted;
  for (int32_t i = 0; i < 3; ++i) {
    EngineRequest request = make_request(6, 25, 100 + 50 * i);
    request.wants_progress = true;
    submitted.push_back(rig.submit(std::move(request)));
  }
  rig.run_until_idle();
  std::vector<TokenId> expected(25);
  std::iota(expected.begin(), expected.end(), 6);
  int32_t num_preemptions = 0;
  for (const auto& one : submitted) {
    CHECK(one.sink->tokens() == expected);
    check_finished_once(*one.sink, FinishReason::kLength, StatusCode::kOk);
    num_preemptions += one.sink->finish().usage.num_preemptions;
    // Recomputing is not progress: the prompt was reported as done before.
    CHECK(one.sink->all<ProgressEvent>().back().processed == 6);
    const auto events = one.sink->events();
    const auto first_token = std::find_if(events.begin(), events.end(), is<TokenEvent>);
    CHECK(std::none_of(first_token, events.end(), is<ProgressEvent>));
  }
  CHECK(num_preemptions > 0);
  CHECK(rig.metrics.preemptions.value() == static_cast<uint64_t>(num_preemptions));
  CHECK(rig.metrics.ttft_seconds.bucket_count(0) == 3);  // a first token is counted once
  rig.check_nothing_held();
}

TEST_CASE("An idle turn is a sign of life", "[engine]") {
  Rig rig;
  rig.clock.advance(milliseconds(1234));
  CHECK_FALSE(rig.engine->step());
  const auto now = std::chrono::duration_cast<milliseconds>(rig.clock.now().time_since_epoch());
  CHECK(rig.metrics.last_step_ms.value() == now.count());
}

TEST_CASE("Draining finishes what is in and refuses what comes", "[engine]") {
  Rig rig;
  const auto running = rig.submit(make_request(4, 5));
  rig.engine->step();
  const auto in_mailbox = rig.submit(make_request(4, 5, 500));
  rig.engine->drain_and_stop(rig.clock.now() + milliseconds(1000));
  check_finished_once(*running.sink, FinishReason::kLength, StatusCode::kOk);
  check_finished_once(*in_mailbox.sink, FinishReason::kLength, StatusCode::kOk);

  CHECK(rig.engine->is_draining());
  const auto refused = rig.engine->submit(make_request(4, 1), std::make_shared<RecordingSink>());
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kUnavailable);
  rig.engine->drain_and_stop(rig.clock.now());  // again: nothing left to do
}

TEST_CASE("A drain's deadline cancels what is left", "[engine]") {
  Rig rig;
  rig.runner.on_step = [&](const StepPlan&) { rig.clock.advance(milliseconds(10)); };
  const auto [id, sink] = rig.submit(make_request(4, 50));
  rig.engine->drain_and_stop(rig.clock.now() + milliseconds(55));
  check_finished_once(*sink, FinishReason::kCancelled, StatusCode::kUnavailable);
  CHECK(sink->tokens().size() == 6);
  rig.check_nothing_held();
}

TEST_CASE("Destruction answers everybody", "[engine]") {
  Rig rig;
  const auto running = rig.submit(make_request(4, 50));
  rig.engine->step();
  const auto in_mailbox = rig.submit(make_request(4, 50, 500));
  rig.engine.reset();
  check_finished_once(*running.sink, FinishReason::kCancelled, StatusCode::kUnavailable);
  check_finished_once(*in_mailbox.sink, FinishReason::kCancelled, StatusCode::kUnavailable);
}

TEST_CASE("The engine thread serves many submitting and cancelling threads", "[engine][threads]") {
  constexpr int kThreads = 8;
  constexpr int kRequestsPerThread = 60;
  const SteadyClock clock;
  EngineMetrics metrics;
  FakeRunner runner;
  Engine engine(small_config(), runner, clock, metrics);
  engine.start();

  std::vector<std::vector<std::shared_ptr<RecordingSink>>> sinks(kThreads);
  {
    std::vector<std::jthread> clients;
    for (int t = 0; t < kThreads; ++t) {
      clients.emplace_back([&, t] {
        for (int i = 0; i < kRequestsPerThread; ++i) {
          auto sink = std::make_shared<RecordingSink>();
          const auto id = engine.submit(make_request(1 + (i * 7) % 30, 1 + i % 20, t * 50), sink);
          if (!id.ok()) continue;
          sinks[static_cast<size_t>(t)].push_back(sink);
          if (i % 3 == 0) engine.cancel(id.value());
          if (i % 3 == 1) {
            sink->wait_for_token();
            engine.cancel(id.value());
          }
          if (i % 10 == 0) sink->wait_for_finish();
        }
      });
    }
  }
  size_t num_accepted = 0;
  for (const auto& of_thread : sinks) {
    num_accepted += of_thread.size();
    for (const auto& sink : of_thread) {
      sink->wait_for_finish();
      const auto events = sink->events();
      CHECK(std::count_if(events.begin(), events.end(), is<FinishEvent>) == 1);
      CHECK(is<QueuedEvent>(events.front()));
    }
  }
  CHECK(num_accepted == kThreads * kRequestsPerThread);
  engine.drain_and_stop(Clock::TimePoint::max());
  CHECK(metrics.finished_length.value() + metrics.finished_cancelled.value() == num_accepted);
  CHECK(metrics.e2e_seconds.sum() > 0);
  CHECK(metrics.blocks_in_use.value() == 0);
}

TEST_CASE("Requests that race with a drain are refused or answered, never lost",
          "[engine][threads]") {
  for (int round = 0; round < 20; ++round) {
    const SteadyClock clock;
    EngineMetrics metrics;
    FakeRunner runner;
    Engine engine(small_config(), runner, clock, metrics);
    engine.start();
    std::atomic<int> num_accepted{0};
    std::vector<std::shared_ptr<RecordingSink>> sinks(4);
    for (auto& sink : sinks) sink = std::make_shared<RecordingSink>();
    {
      std::vector<std::jthread> clients;
      for (const auto& sink : sinks) {
        clients.emplace_back([&] {
          while (engine.submit(make_request(4, 3), sink).ok()) ++num_accepted;
        });
      }
      clients.emplace_back([&] {
        while (num_accepted < 20) std::this_thread::yield();
        engine.drain_and_stop(round % 2 == 0 ? Clock::TimePoint::max() : clock.now());
      });
    }
    size_t num_finished = 0;
    for (const auto& sink : sinks) num_finished += sink->all<FinishEvent>().size();
    CHECK(num_finished == static_cast<size_t>(num_accepted.load()));
  }
}

}  // namespace quire
