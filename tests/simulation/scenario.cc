#include "tests/simulation/scenario.h"

#include <algorithm>
#include <utility>

namespace quire {
namespace {

constexpr size_t kMaxTexts = 12;

TokenId draw_token(Random& random, const EngineConfig& config) {
  return random.between(0, config.vocab_size - 1);
}

EngineConfig draw_config(Random& random) {
  EngineConfig config;
  config.moba.block_size = random.pick(1, 2, 4, 4, 8);
  config.moba.top_k = random.between(1, 3);
  config.moba.decode = random.pick(AttentionMode::kMoba, AttentionMode::kFull);
  config.moba.prefill =
      random.pick(AttentionMode::kMoba, AttentionMode::kMoba, AttentionMode::kFull);
  config.default_attention =
      random.pick(AttentionMode::kMoba, AttentionMode::kMoba, AttentionMode::kFull);
  config.vocab_size = random.pick(5, 50);
  config.max_top_k = 4;
  config.max_model_len = random.between(12, 72);
  const int32_t min_blocks =
      (config.max_model_len + config.moba.block_size - 1) / config.moba.block_size;
  // From the smallest pool that is allowed to one that is hardly ever full.
  config.num_blocks = min_blocks + random.pick(0, 0, 1, min_blocks / 2, min_blocks, 6 * min_blocks);
  config.max_num_seqs = random.between(1, 8);
  config.max_step_tokens = config.max_num_seqs + random.pick(0, 1, 7, 30, 100);
  config.max_step_seconds = random.pick(0.0, 0.001, 0.02);
  config.max_queued_requests = random.pick(2, 10, 1000);
  config.max_queued_tokens = random.pick(60, 400, 100'000);
  config.enable_prefix_cache = random.chance(0.75);
  if (random.chance(0.4)) config.rope_switch_len = random.between(1, config.max_model_len);
  return config;
}

}  // namespace

Weather make_weather(Random& random) {
  Weather weather;
  weather.config = draw_config(random);
  weather.num_requests = random.between(1, 40);
  weather.arrival_chance = random.pick(0.05, 0.3, 0.9);
  weather.cancel_chance = random.pick(0.0, 0.02, 0.2);
  weather.fault_chance = random.pick(0.0, 0.0, 0.03, 0.3);
  weather.long_answer_chance = random.pick(0.0, 0.3, 0.9);
  weather.stall_chance = random.pick(0.0, 0.02, 0.1);
  if (random.chance(0.2)) weather.drain_at_step = random.between(0, 60);
  return weather;
}

Scenario::Scenario(const Weather& weather, Random& random) : weather_(weather), random_(random) {
  for (int text = 0; text < 3; ++text) {
    texts_.emplace_back();
    for (int32_t i = 0; i < weather.config.max_model_len; ++i) {
      texts_.back().push_back(draw_token(random_, weather.config));
    }
  }
}

Order Scenario::next_order(Clock::TimePoint now) {
  const EngineConfig& config = weather_.config;
  Order order;
  EngineRequest& request = order.request;
  const bool is_long_answer = random_.chance(weather_.long_answer_chance);
  request.prompt =
      draw_prompt(is_long_answer ? config.max_model_len / 4 : config.max_model_len - 1);
  const auto num_prompt = static_cast<int32_t>(request.prompt.size());
  const int32_t most = config.max_model_len - num_prompt;
  request.max_new_tokens = is_long_answer ? most : random_.between(1, std::min(most, 12));
  draw_limits(order, now);
  request.sampling.temperature = 0;
  request.wants_progress = random_.chance(0.5);
  request.priority = random_.pick(0, 0, 0, -1, 1);
  request.cache_salt = random_.pick("", "", "", "tenant");
  if (random_.chance(0.2)) {
    request.attention.mode = random_.pick(AttentionMode::kMoba, AttentionMode::kFull);
  }
  if (random_.chance(0.2)) request.attention.top_k = random_.between(1, config.max_top_k);
  order.arguments = {.prompt = request.prompt,
                     .salt = request.cache_salt,
                     .prefill = resolve(request.attention, config.moba.prefill),
                     .decode = resolve(request.attention, config.moba.decode)};
  order.deadline = request.deadline;
  order.wants_progress = request.wants_progress;
  if (random_.chance(0.02)) {
    request.max_new_tokens = config.max_model_len + 1 - num_prompt;
    order.is_too_long = true;
    return order;
  }
  foresee(order);
  return order;
}

std::vector<TokenId> Scenario::draw_prompt(int32_t max_tokens) {
  const auto& text = texts_[random_.next() % texts_.size()];
  const auto longest = std::min(max_tokens, static_cast<int32_t>(text.size()));
  // Whole texts are usual: it is equal prompts that wait for each other.
  const int32_t num_shared = random_.chance(0.4) ? longest : random_.between(0, longest);
  std::vector<TokenId> prompt(text.begin(), text.begin() + num_shared);
  const int32_t num_own = random_.between(0, std::min(6, max_tokens - num_shared));
  for (int32_t i = 0; i < num_own; ++i) prompt.push_back(draw_token(random_, weather_.config));
  if (prompt.empty()) prompt.push_back(0);
  return prompt;
}

void Scenario::draw_limits(Order& order, Clock::TimePoint now) {
  EngineRequest& request = order.request;
  if (random_.chance(0.2)) request.min_new_tokens = random_.between(0, request.max_new_tokens);
  for (int32_t num_stops = random_.pick(0, 0, 1, 2); num_stops > 0; --num_stops) {
    request.stop_token_ids.push_back(draw_token(random_, weather_.config));
  }
  if (random_.chance(0.1)) {
    request.deadline = now + std::chrono::milliseconds(random_.between(0, 400));
  }
  if (random_.chance(0.05)) order.cancel_after = random_.between(1, 6);
}

PhaseAttention Scenario::resolve(const AttentionChoice& choice, AttentionMode of_phase) const {
  const EngineConfig& config = weather_.config;
  if (config.default_attention == AttentionMode::kFull) of_phase = AttentionMode::kFull;
  const AttentionMode mode = choice.mode.value_or(of_phase);
  if (mode == AttentionMode::kFull) return {.mode = mode, .top_k = 0};
  return {.mode = mode, .top_k = choice.top_k.value_or(config.moba.top_k)};
}

void Scenario::foresee(Order& order) {
  const EngineRequest& request = order.request;
  const std::vector<TokenId> all =
      expected_completion(order.arguments, weather_.config, request.max_new_tokens);
  order.reason = FinishReason::kLength;
  for (const TokenId token : all) {
    order.completion.push_back(token);
    const bool may_stop = std::ssize(order.completion) > request.min_new_tokens;
    if (may_stop &&
        std::ranges::find(request.stop_token_ids, token) != request.stop_token_ids.end()) {
      order.reason = FinishReason::kStop;
      break;
    }
  }
  if (texts_.size() >= kMaxTexts || !random_.chance(0.3)) return;
  texts_.push_back(request.prompt);  // the conversation goes on with the answer
  texts_.back().insert(texts_.back().end(), order.completion.begin(), order.completion.end());
}

}  // namespace quire
