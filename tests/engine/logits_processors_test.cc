#include "engine/sampling/logits_processors.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/sampling/logprobs.h"
#include "kernels/check.h"

namespace quire {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
using Row = std::vector<float>;

}  // namespace

TEST_CASE("Repetition penalty weakens every token seen, once each", "[logits_processors]") {
  TokenCounts counts(4);
  counts.catch_up(std::vector<TokenId>{0, 2, 2, 2}, /*num_prompt_tokens=*/3);
  SamplingParams params;
  params.repetition_penalty = 2.0f;
  Row logits{3.0f, 3.0f, -3.0f, 1.0f};
  apply_penalties(params, counts, logits);
  CHECK(logits == Row{1.5f, 3.0f, -6.0f, 1.0f});
}

TEST_CASE("Presence and frequency penalties count the completion alone", "[logits_processors]") {
  TokenCounts counts(4);
  counts.catch_up(std::vector<TokenId>{0, 0, 1, 1, 1, 3}, /*num_prompt_tokens=*/2);
  SamplingParams params;
  params.presence_penalty = 0.5f;
  params.frequency_penalty = 0.25f;
  Row logits(4, 1.0f);
  apply_penalties(params, counts, logits);
  CHECK(logits == Row{1.0f, 1.0f - 0.5f - 3 * 0.25f, 1.0f, 1.0f - 0.5f - 0.25f});
}

TEST_CASE("Counting token by token equals counting at once", "[logits_processors]") {
  const std::vector<TokenId> tokens{5, 1, 5, 2, 2, 5, 0};
  TokenCounts at_once(6), stepwise(6);
  at_once.catch_up(tokens, 3);
  for (size_t length = 3; length <= tokens.size(); ++length) {
    stepwise.catch_up(std::span(tokens).first(length), 3);
    stepwise.catch_up(std::span(tokens).first(length), 3);  // nothing new: nothing counted
  }
  CHECK(std::vector(stepwise.distinct().begin(), stepwise.distinct().end()) ==
        std::vector<TokenId>{5, 1, 2, 0});
  CHECK(stepwise.in_completion() == at_once.in_completion());
  CHECK(stepwise.in_completion().at(2) == 2);
  CHECK(stepwise.in_completion().at(5) == 1);
}

TEST_CASE("Bias adds, a ban is final", "[logits_processors]") {
  Row logits(3, 1.0f);
  const std::vector<std::pair<TokenId, float>> bias{{0, 100.0f}, {2, -100.0f}};
  apply_logit_bias(bias, logits);
  CHECK(logits == Row{101.0f, 1.0f, -99.0f});
  ban_tokens(std::vector<TokenId>{0}, logits);
  CHECK(logits[0] == -kInfinity);
}

TEST_CASE("No token outside the row is touched", "[logits_processors]") {
  Row logits(3, 0.0f);
  CHECK_THROWS_AS(ban_tokens(std::vector<TokenId>{3}, logits), ContractError);
  CHECK_THROWS_AS(ban_tokens(std::vector<TokenId>{-1}, logits), ContractError);
  TokenCounts counts(3);
  CHECK_THROWS_AS(counts.catch_up(std::vector<TokenId>{3}, 1), ContractError);
}

TEST_CASE("Logprobs are those of the softmax", "[logprobs]") {
  const Row logits{std::log(1.0f), std::log(2.0f), std::log(4.0f), std::log(1.0f)};
  const RowLogprobs logprobs(logits);
  CHECK(logprobs.of(2) == Approx(std::log(0.5)));
  CHECK(logprobs.of(0) == Approx(std::log(0.125)));
}

TEST_CASE("Large logits neither overflow nor lose the small ones", "[logprobs]") {
  const Row logits{3e38f, 3e38f, -1e38f};
  const RowLogprobs logprobs(logits);
  CHECK(logprobs.of(0) == Approx(std::log(0.5)));
  CHECK(logprobs.of(2) == -kInfinity);  // -4e38 is below what a float holds
}

TEST_CASE("Top tokens come in descending order, ties by id, and never too many", "[logprobs]") {
  const Row logits{1.0f, 5.0f, 3.0f, 5.0f, 3.0f, NAN};
  const RowLogprobs logprobs(logits);
  const auto ids = [&](int num_tokens) {
    std::vector<TokenId> tokens;
    for (const TokenLogprob& entry : logprobs.top(num_tokens)) tokens.push_back(entry.token);
    return tokens;
  };
  CHECK(ids(0).empty());
  CHECK(ids(1) == std::vector<TokenId>{1});
  CHECK(ids(3) == std::vector<TokenId>{1, 3, 2});
  CHECK(ids(20) == std::vector<TokenId>{1, 3, 2, 4, 0, 5});
  for (const TokenLogprob& entry : logprobs.top(6)) {
    CHECK(entry.logprob == logprobs.of(entry.token));
  }
}

TEST_CASE("A row without a possible token has logprobs of -inf, not NaN", "[logprobs]") {
  const Row logits{-kInfinity, NAN};
  const RowLogprobs logprobs(logits);
  CHECK(logprobs.of(0) == -kInfinity);
  CHECK(logprobs.top(2).size() == 2);
  CHECK(logprobs.top(1).front().logprob == -kInfinity);
}

}  // namespace quire
