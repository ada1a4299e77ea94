#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_config.h"
#include "engine/engine_request.h"
#include "tests/simulation/random.h"
#include "tests/simulation/simulated_model.h"

namespace quire {

/// The weather of one simulated life: sizes of the engine, and how often what happens.
struct Weather {
  EngineConfig config;
  int32_t num_requests = 0;
  double arrival_chance = 0;      // of one more request, before or within a step
  double cancel_chance = 0;       // of one cancel, before or within a step
  double fault_chance = 0;        // of a failing step
  double long_answer_chance = 0;  // of a short prompt with as many new tokens as there is room for
  double stall_chance = 0;        // of a clock jump within a step
  std::optional<int32_t> drain_at_step;
};

Weather make_weather(Random& random);

/// A request and all that may be said of its answer. `request` goes to the engine, the rest stays.
struct Order {
  EngineRequest request;
  std::optional<Clock::TimePoint> deadline;
  bool wants_progress = false;
  ModelArguments arguments;
  bool is_too_long = false;             // must be refused
  std::vector<TokenId> completion;      // up to its end
  FinishReason reason{};                // of an undisturbed end
  std::optional<int32_t> cancel_after;  // its client cancels within this token's event
};

/// Draws requests that have much to do with each other: prefixes of a few texts, continued
/// conversations, few salts and few attentions.
class Scenario {
 public:
  Scenario(const Weather& weather, Random& random);

  Order next_order(Clock::TimePoint now);

 private:
  std::vector<TokenId> draw_prompt(int32_t max_tokens);
  void draw_limits(Order& order, Clock::TimePoint now);
  PhaseAttention resolve(const AttentionChoice& choice, AttentionMode of_phase) const;
  void foresee(Order& order);

  const Weather& weather_;
  Random& random_;
  std::vector<std::vector<TokenId>> texts_;  // the beginnings of prompts; grows with conversations
};

}  // namespace quire
