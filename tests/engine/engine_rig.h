#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <numeric>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "kernels/backend.h"
#include "tests/engine/engine_fakes.h"

namespace quire {

inline EngineConfig small_engine_config() {
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
inline EngineRequest make_engine_request(int32_t num_prompt_tokens, int32_t max_new_tokens,
                                         TokenId first = 100) {
  EngineRequest request;
  request.prompt.resize(static_cast<size_t>(num_prompt_tokens));
  std::iota(request.prompt.begin(), request.prompt.end(), first);
  request.max_new_tokens = max_new_tokens;
  request.sampling.temperature = 0;
  return request;
}

/// An engine without a thread, turned by hand.
struct EngineRig {
  explicit EngineRig(const EngineConfig& config = small_engine_config()) {
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

inline void check_finished_once(const RecordingSink& sink, FinishReason reason, StatusCode code) {
  REQUIRE(sink.all<FinishEvent>().size() == 1);
  CHECK(std::holds_alternative<FinishEvent>(sink.events().back()));
  CHECK(sink.finish().reason == reason);
  CHECK(sink.finish().status.code() == code);
}

template <class Event>
bool is(const EngineEvent& event) {
  return std::holds_alternative<Event>(event);
}

}  // namespace quire
