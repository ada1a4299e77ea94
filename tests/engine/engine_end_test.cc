// How an engine and its sequences end: failures, deadlines of a drain, races of threads.

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "tests/engine/engine_rig.h"

namespace quire {

using std::chrono::milliseconds;

TEST_CASE("A failed step fails its own sequences and no others", "[engine]") {
  EngineRig rig;
  EngineConfig config = small_engine_config();
  config.max_num_seqs = 1;
  rig.engine = std::make_unique<Engine>(config, rig.runner, rig.clock, rig.metrics);
  const auto unlucky = rig.submit(make_engine_request(8, 2));
  const auto waiting = rig.submit(make_engine_request(8, 2, 300));
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
  const auto again = rig.submit(make_engine_request(8, 2));
  rig.run_until_idle();
  CHECK(again.sink->tokens() == std::vector<TokenId>{8, 9});
}

TEST_CASE("Failures that are not in a row leave the engine healthy", "[engine]") {
  EngineRig rig;
  rig.runner.on_step = [n = 0](const StepPlan&) mutable {
    if (n++ % 3 != 2) throw DeviceError("flaky");
  };
  for (int32_t i = 0; i < 9; ++i) {
    rig.submit(make_engine_request(4, 1));
    rig.run_until_idle();
  }
  CHECK(rig.metrics.step_failures.value() == 6);
  CHECK(rig.metrics.finished_length.value() == 3);
  CHECK(rig.engine->is_healthy());
}

TEST_CASE("The third failure in a row makes the engine refuse everything", "[engine]") {
  EngineRig rig;
  EngineConfig config = small_engine_config();
  config.max_num_seqs = 1;
  rig.engine = std::make_unique<Engine>(config, rig.runner, rig.clock, rig.metrics);
  rig.fail_next_steps(3);
  std::vector<EngineRig::Submitted> submitted;
  for (int32_t i = 0; i < 5; ++i)
    submitted.push_back(rig.submit(make_engine_request(4, 1, 100 + i * 50)));
  for (int step = 0; step < 3; ++step) rig.engine->step();

  CHECK_FALSE(rig.engine->is_healthy());
  for (size_t i = 0; i < 3; ++i) {
    check_finished_once(*submitted[i].sink, FinishReason::kError, StatusCode::kInternal);
  }
  for (size_t i = 3; i < 5; ++i) {
    check_finished_once(*submitted[i].sink, FinishReason::kError, StatusCode::kUnavailable);
  }
  const auto refused =
      rig.engine->submit(make_engine_request(4, 1), std::make_shared<RecordingSink>());
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
  Engine engine(small_engine_config(), runner, clock, metrics);
  const auto first = std::make_shared<RecordingSink>();
  const auto second = std::make_shared<RecordingSink>();
  REQUIRE(engine.submit(make_engine_request(4, 1), first).ok());
  REQUIRE(engine.submit(make_engine_request(4, 2, 500), second).ok());
  while (engine.step()) {
  }
  CHECK_FALSE(engine.is_healthy());
  check_finished_once(*first, FinishReason::kError, StatusCode::kUnavailable);
  check_finished_once(*second, FinishReason::kError, StatusCode::kUnavailable);
}

TEST_CASE("Draining finishes what is in and refuses what comes", "[engine]") {
  EngineRig rig;
  const auto running = rig.submit(make_engine_request(4, 5));
  rig.engine->step();
  const auto in_mailbox = rig.submit(make_engine_request(4, 5, 500));
  rig.engine->drain_and_stop(rig.clock.now() + milliseconds(1000));
  check_finished_once(*running.sink, FinishReason::kLength, StatusCode::kOk);
  check_finished_once(*in_mailbox.sink, FinishReason::kLength, StatusCode::kOk);

  CHECK(rig.engine->is_draining());
  const auto refused =
      rig.engine->submit(make_engine_request(4, 1), std::make_shared<RecordingSink>());
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kUnavailable);
  rig.engine->drain_and_stop(rig.clock.now());  // again: nothing left to do
}

TEST_CASE("A drain's deadline cancels what is left", "[engine]") {
  EngineRig rig;
  rig.runner.on_step = [&](const StepPlan&) { rig.clock.advance(milliseconds(10)); };
  const auto [id, sink] = rig.submit(make_engine_request(4, 50));
  rig.engine->drain_and_stop(rig.clock.now() + milliseconds(55));
  check_finished_once(*sink, FinishReason::kCancelled, StatusCode::kUnavailable);
  CHECK(sink->tokens().size() == 6);
  rig.check_nothing_held();
}

TEST_CASE("Destruction answers everybody", "[engine]") {
  EngineRig rig;
  const auto running = rig.submit(make_engine_request(4, 50));
  rig.engine->step();
  const auto in_mailbox = rig.submit(make_engine_request(4, 50, 500));
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
  Engine engine(small_engine_config(), runner, clock, metrics);
  engine.start();

  std::vector<std::vector<std::shared_ptr<RecordingSink>>> sinks(kThreads);
  {
    std::vector<std::jthread> clients;
    for (int t = 0; t < kThreads; ++t) {
      clients.emplace_back([&, t] {
        for (int i = 0; i < kRequestsPerThread; ++i) {
          auto sink = std::make_shared<RecordingSink>();
          const auto id =
              engine.submit(make_engine_request(1 + (i * 7) % 30, 1 + i % 20, t * 50), sink);
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
    Engine engine(small_engine_config(), runner, clock, metrics);
    engine.start();
    std::atomic<int> num_accepted{0};
    std::vector<std::shared_ptr<RecordingSink>> sinks(4);
    for (auto& sink : sinks) sink = std::make_shared<RecordingSink>();
    {
      std::vector<std::jthread> clients;
      for (const auto& sink : sinks) {
        clients.emplace_back([&] {
          for (int i = 0; i < 1000 && engine.submit(make_engine_request(4, 3), sink).ok(); ++i) {
            ++num_accepted;
          }
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
