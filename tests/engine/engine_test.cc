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

TEST_CASE("A sequence hears: queued, progress, tokens, finish", "[engine]") {
  EngineRig rig;
  rig.runner.on_step = [&](const StepPlan&) { rig.clock.advance(milliseconds(250)); };
  EngineRequest request = make_engine_request(20, 3);
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
  EngineRig rig;
  const auto first = rig.submit(make_engine_request(16, 1));
  rig.run_until_idle();
  CHECK(first.sink->all<ProgressEvent>().empty());

  EngineRequest request = make_engine_request(16, 1);
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
  EngineRig rig;
  EngineRequest request = make_engine_request(5, 20);
  request.stop_token_ids = {7};
  const auto [id, sink] = rig.submit(std::move(request));
  rig.run_until_idle();
  CHECK(sink->tokens() == std::vector<TokenId>{5, 6, 7});
  check_finished_once(*sink, FinishReason::kStop, StatusCode::kOk);
  CHECK(sink->finish().usage.completion_tokens == 3);
}

TEST_CASE("Queue positions count from the front", "[engine]") {
  EngineRig rig;
  std::vector<EngineRig::Submitted> submitted;
  for (int32_t i = 0; i < 3; ++i)
    submitted.push_back(rig.submit(make_engine_request(4, 1, 100 + i * 50)));
  rig.run_until_idle();
  for (int32_t i = 0; i < 3; ++i) {
    const auto queued = submitted[static_cast<size_t>(i)].sink->all<QueuedEvent>();
    REQUIRE(queued.size() == 1);
    CHECK(queued[0].position == i);
  }
}

TEST_CASE("What cannot run is refused at once and the sink hears nothing", "[engine]") {
  EngineRig rig;
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
  refused(make_engine_request(0, 1), "prompt");
  refused(make_engine_request(4, 0), "max_tokens");
  refused(make_engine_request(4, std::numeric_limits<int32_t>::min()), "max_tokens");
  refused(make_engine_request(4, 1, 998), "prompt");  // tokens 998 to 1001 of 1000
  refused(make_engine_request(4, 1, -1), "prompt");

  refused(make_engine_request(60, 5), "prompt");
  CHECK(detail == "context_length_exceeded");
  CHECK(message.find("65") != std::string::npos);
  CHECK(message.find("64") != std::string::npos);
  refused(make_engine_request(4, std::numeric_limits<int32_t>::max()), "prompt");

  EngineRequest request = make_engine_request(4, 2);
  request.attention.top_k = 0;
  refused(std::move(request), "attention.top_k");
  request = make_engine_request(4, 2);
  request.attention.top_k = 5;
  refused(std::move(request), "attention.top_k");
  request = make_engine_request(4, 2);
  request.min_new_tokens = 3;
  refused(std::move(request), "min_tokens");
  request = make_engine_request(4, 2);
  request.stop_token_ids = {1000};
  refused(std::move(request), "stop_token_ids");
  request = make_engine_request(4, 2);
  request.sampling.logit_bias = {{-1, 1.0f}};
  refused(std::move(request), "logit_bias");

  CHECK_FALSE(rig.engine->step());
  const auto good = rig.submit(make_engine_request(60, 4));  // exactly the context
  rig.run_until_idle();
  check_finished_once(*good.sink, FinishReason::kLength, StatusCode::kOk);
}

TEST_CASE("Settings under which a valid request could never finish are refused", "[engine]") {
  ManualClock clock;
  EngineMetrics metrics;
  FakeRunner runner;
  const auto refused = [&](auto change) {
    EngineConfig config = small_engine_config();
    change(config);
    CHECK_THROWS_AS(Engine(config, runner, clock, metrics), std::invalid_argument);
  };
  refused([](EngineConfig& config) { config.num_blocks = 15; });  // 60 tokens of 64
  refused([](EngineConfig& config) { config.vocab_size = 0; });
  refused([](EngineConfig& config) { config.max_step_tokens = 3; });
  refused([](EngineConfig& config) { config.max_step_seconds = -1; });
  refused([](EngineConfig& config) { config.moba.block_size = 0; });
  refused([](EngineConfig& config) { config.max_model_len = 0; });
}

TEST_CASE("Cancel takes effect in every state and answers once", "[engine]") {
  EngineRig rig;
  const auto cancel_after = [&](int num_turns) {
    const auto submitted = rig.submit(make_engine_request(20, 10));
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
    std::vector<EngineRig::Submitted> running;
    for (int32_t i = 0; i < 4; ++i)
      running.push_back(rig.submit(make_engine_request(4, 8, 100 + i * 50)));
    while (rig.metrics.sequences_running.value() < 4) rig.engine->step();
    const auto waiting = rig.submit(make_engine_request(4, 8, 500));
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
    const auto [id, sink] = rig.submit(make_engine_request(4, 1));
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
    id = rig.engine->submit(make_engine_request(4, 10), sink).value();
    rig.run_until_idle();
    check_finished_once(*sink, FinishReason::kCancelled, StatusCode::kCancelled);
    CHECK(sink->tokens().size() == 1);
  }
}

TEST_CASE("A deadline ends a sequence wherever it is", "[engine]") {
  EngineRig rig;
  EngineRequest request = make_engine_request(4, 50);
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

TEST_CASE("Queue tickets come back when a sequence first runs, or dies waiting", "[engine]") {
  struct Ticket final : QueueTicket {
    explicit Ticket(int& count) : num_alive(count) { ++num_alive; }
    ~Ticket() override { --num_alive; }
    void correct(int64_t) override {}
    int& num_alive;
  };
  EngineRig rig;
  int num_alive = 0;
  const auto with_ticket = [&](EngineRequest request) {
    request.queue_ticket = std::make_unique<Ticket>(num_alive);
    return rig.submit(std::move(request));
  };
  const auto runs = with_ticket(make_engine_request(20, 5));
  CHECK(num_alive == 1);
  rig.engine->step();
  CHECK(num_alive == 0);  // three chunks are still to come
  const auto dies = with_ticket(make_engine_request(20, 5, 500));
  rig.engine->cancel(dies.id);
  rig.engine->step();
  CHECK(num_alive == 0);
  CHECK_FALSE(runs.sink->is_finished());
}

TEST_CASE("Every sequence that samples has a seed of its own, a given one is kept", "[engine]") {
  EngineRig rig;
  const auto with_seed = [&](std::optional<uint64_t> seed) {
    EngineRequest request = make_engine_request(4, 1);
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
  EngineConfig config = small_engine_config();
  config.num_blocks = 16;  // one full-length sequence: three of 31 tokens cannot coexist
  config.enable_prefix_cache = false;
  EngineRig rig(config);
  std::vector<EngineRig::Submitted> submitted;
  for (int32_t i = 0; i < 3; ++i) {
    EngineRequest request = make_engine_request(6, 25, 100 + 50 * i);
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
  EngineRig rig;
  rig.clock.advance(milliseconds(1234));
  CHECK_FALSE(rig.engine->step());
  const auto now = std::chrono::duration_cast<milliseconds>(rig.clock.now().time_since_epoch());
  CHECK(rig.metrics.last_step_ms.value() == now.count());
}

}  // namespace quire
