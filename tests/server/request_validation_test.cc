#include "server/request_validation.h"

#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace quire {
namespace {

using Catch::Matchers::Contains;

constexpr int32_t kVocab = 100;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

ServiceConfig service_config() {
  ServiceConfig config;
  config.model_name = "m";
  config.model_aliases = {"alias"};
  config.max_model_len = 1000;
  config.max_choices = 8;
  config.max_top_k = 16;
  return config;
}

GenerateRequest good_request() {
  GenerateRequest request;
  request.input = GenerateRequest::TextInput{{"hi"}};
  return request;
}

GenerateRequest token_request(std::vector<std::vector<TokenId>> prompts) {
  GenerateRequest request;
  request.input = GenerateRequest::TokenInput{std::move(prompts)};
  return request;
}

GenerateRequest::ChatInput chat_with_role(const std::string& role) {
  return {.messages = {{.role = "user", .content = "hi"}, {.role = role, .content = "hi"}},
          .options = {}};
}

Status judge(const GenerateRequest& request) { return validate(request, service_config(), kVocab); }

/// A field, what sets it, and whether the value is let in.
struct Limit {
  std::string param;
  std::function<void(GenerateRequest&)> set;
  bool is_good;
};
using Request = GenerateRequest;

const std::vector<Limit> kIntegerLimits = {
    {"n", [](Request& r) { r.n = 0; }, false},
    {"n", [](Request& r) { r.n = 8; }, true},
    {"n", [](Request& r) { r.n = 9; }, false},
    {"n", [](Request& r) { r.n = INT64_MIN; }, false},
    {"n", [](Request& r) { r.n = INT64_MAX; }, false},
    {"max_tokens", [](Request& r) { r.max_tokens = 0; }, false},
    {"max_tokens", [](Request& r) { r.max_tokens = 1; }, true},
    {"max_tokens", [](Request& r) { r.max_tokens = 999; }, true},
    {"max_tokens", [](Request& r) { r.max_tokens = 1001; }, false},
    {"max_tokens", [](Request& r) { r.max_tokens = INT64_MAX; }, false},
    {"min_tokens", [](Request& r) { r.min_tokens = -1; }, false},
    {"min_tokens", [](Request& r) { r.max_tokens = r.min_tokens = 5; }, true},
    {"min_tokens", [](Request& r) { r.max_tokens = 5, r.min_tokens = 6; }, false},
    {"top_k", [](Request& r) { r.top_k = -2; }, false},
    {"top_k", [](Request& r) { r.top_k = -1; }, true},
    {"top_k", [](Request& r) { r.top_k = INT64_MAX; }, false},
    {"top_logprobs", [](Request& r) { r.top_logprobs = -1; }, false},
    {"top_logprobs", [](Request& r) { r.top_logprobs = 20; }, true},
    {"top_logprobs", [](Request& r) { r.top_logprobs = 21; }, false},
    {"stop_token_ids",
     [](Request& r) {
       r.stop_token_ids = {0, 99};
     },
     true},
    {"stop_token_ids",
     [](Request& r) {
       r.stop_token_ids = {5, 100};
     },
     false},
    {"stop_token_ids", [](Request& r) { r.stop_token_ids = {-1}; }, false},
    {"stop_token_ids", [](Request& r) { r.stop_token_ids.assign(64, 1); }, true},
    {"stop_token_ids", [](Request& r) { r.stop_token_ids.assign(65, 1); }, false},
    {"attention.top_k", [](Request& r) { r.attention_top_k = 0; }, false},
    {"attention.top_k", [](Request& r) { r.attention_top_k = 16; }, true},
    {"attention.top_k", [](Request& r) { r.attention_top_k = 17; }, false},
    {"priority", [](Request& r) { r.priority = -1'000'000; }, true},
    {"priority", [](Request& r) { r.priority = 1'000'001; }, false},
    {"priority", [](Request& r) { r.priority = INT64_MIN; }, false}};

const std::vector<Limit> kNumberLimits = {
    {"temperature", [](Request& r) { r.temperature = 0; }, true},
    {"temperature", [](Request& r) { r.temperature = 2; }, true},
    {"temperature", [](Request& r) { r.temperature = 2.001; }, false},
    {"temperature", [](Request& r) { r.temperature = -0.001; }, false},
    {"temperature", [](Request& r) { r.temperature = kNan; }, false},
    {"temperature", [](Request& r) { r.temperature = kInf; }, false},
    {"top_p", [](Request& r) { r.top_p = 0; }, false},
    {"top_p", [](Request& r) { r.top_p = 1e-9; }, true},
    {"top_p", [](Request& r) { r.top_p = 1.01; }, false},
    {"top_p", [](Request& r) { r.top_p = kNan; }, false},
    {"min_p", [](Request& r) { r.min_p = 1; }, true},
    {"min_p", [](Request& r) { r.min_p = -0.1; }, false},
    {"min_p", [](Request& r) { r.min_p = kNan; }, false},
    {"presence_penalty", [](Request& r) { r.presence_penalty = -2; }, true},
    {"presence_penalty", [](Request& r) { r.presence_penalty = -2.1; }, false},
    {"frequency_penalty", [](Request& r) { r.frequency_penalty = 2; }, true},
    {"frequency_penalty", [](Request& r) { r.frequency_penalty = 2.1; }, false},
    {"repetition_penalty", [](Request& r) { r.repetition_penalty = 0; }, false},
    {"repetition_penalty", [](Request& r) { r.repetition_penalty = 1e-60; }, false},
    {"repetition_penalty", [](Request& r) { r.repetition_penalty = 10; }, true},
    {"repetition_penalty", [](Request& r) { r.repetition_penalty = -kInf; }, false},
    {"logit_bias",
     [](Request& r) {
       r.logit_bias = {{0, -100.0}, {99, 100.0}};
     },
     true},
    {"logit_bias",
     [](Request& r) {
       r.logit_bias = {{5, 100.5}};
     },
     false},
    {"logit_bias",
     [](Request& r) {
       r.logit_bias = {{5, kNan}};
     },
     false},
    {"logit_bias",
     [](Request& r) {
       r.logit_bias = {{100, 1.0}};
     },
     false},
    {"logit_bias",
     [](Request& r) {
       r.logit_bias = {{-1, 1.0}};
     },
     false},
    {"logit_bias",
     [](Request& r) {
       r.logit_bias.assign(4097, {1, 1.0});
     },
     false},
    {"timeout", [](Request& r) { r.timeout_seconds = 0.5; }, true},
    {"timeout", [](Request& r) { r.timeout_seconds = 0; }, false},
    {"timeout", [](Request& r) { r.timeout_seconds = 1e9; }, false},
    {"timeout", [](Request& r) { r.timeout_seconds = kInf; }, false}};

const std::vector<Limit> kTextLimits = {
    {"stop", [](Request& r) { r.stop.assign(4, "x"); }, true},
    {"stop", [](Request& r) { r.stop.assign(5, "x"); }, false},
    {"stop",
     [](Request& r) {
       r.stop = {"x", ""};
     },
     false},
    {"stop", [](Request& r) { r.stop = {std::string(1024, 'x')}; }, true},
    {"stop", [](Request& r) { r.stop = {std::string(1025, 'x')}; }, false},
    {"attention.mode", [](Request& r) { r.attention_mode = "auto"; }, true},
    {"attention.mode", [](Request& r) { r.attention_mode = "moba"; }, true},
    {"attention.mode", [](Request& r) { r.attention_mode = "full"; }, true},
    {"attention.mode", [](Request& r) { r.attention_mode = "sparse"; }, false},
    {"attention.mode", [](Request& r) { r.attention_mode = ""; }, false},
    {"messages", [](Request& r) { r.input = GenerateRequest::ChatInput{}; }, false},
    {"messages[1].role", [](Request& r) { r.input = chat_with_role("emperor"); }, false},
    {"messages[1].role", [](Request& r) { r.input = chat_with_role("User"); }, false},
    {"messages[1].role", [](Request& r) { r.input = chat_with_role(""); }, false},
    {"messages[1].role", [](Request& r) { r.input = chat_with_role("developer"); }, true},
    {"messages[1].role", [](Request& r) { r.input = chat_with_role("tool"); }, true},
    {"prompt", [](Request& r) { r.input = GenerateRequest::TextInput{}; }, false},
    {"prompt", [](Request& r) { r.input = GenerateRequest::TokenInput{}; }, false},
    {"prompt",
     [](Request& r) {
       r.input = GenerateRequest::TokenInput{{{1}, {}}};
     },
     false},
    {"prompt",
     [](Request& r) {
       r.input = GenerateRequest::TokenInput{{{0, 99}}};
     },
     true},
    {"prompt", [](Request& r) { r.input = GenerateRequest::TokenInput{{{100}}}; }, false},
    {"prompt", [](Request& r) { r.input = GenerateRequest::TokenInput{{{-1}}}; }, false},
    // Of several prompts each makes n choices.
    {"n",
     [](Request& r) {
       r.n = 4, r.input = GenerateRequest::TokenInput{{{1}, {2}}};
     },
     true},
    {"n",
     [](Request& r) {
       r.n = 5, r.input = GenerateRequest::TokenInput{{{1}, {2}}};
     },
     false}};

void check_limits(const std::vector<Limit>& limits) {
  for (size_t i = 0; i < limits.size(); ++i) {
    CAPTURE(i, limits[i].param);
    GenerateRequest request = good_request();
    limits[i].set(request);
    const Status status = judge(request);
    CHECK(status.ok() == limits[i].is_good);
    if (limits[i].is_good) continue;
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(status.param() == limits[i].param);
    if (limits[i].param != "stop") CHECK_THAT(status.message(), Contains(limits[i].param));
  }
}

TEST_CASE("the defaults of a request are in range") { CHECK(judge(good_request()).ok()); }

TEST_CASE("every integer of a request has a least and a largest value") {
  check_limits(kIntegerLimits);
}

TEST_CASE("every number of a request has a least and a largest value") {
  check_limits(kNumberLimits);
}

TEST_CASE("texts and prompts of a request have their limits") { check_limits(kTextLimits); }

TEST_CASE("a complaint about a number says the range and the number") {
  GenerateRequest request = good_request();
  request.temperature = 2.5;
  CHECK(judge(request).message() == "temperature must be between 0 and 2, not 2.5");
  request.temperature = kNan;
  CHECK(judge(request).message() == "temperature must be between 0 and 2, not NaN");
  request = good_request();
  request.top_k = -7;
  CHECK_THAT(judge(request).message(), Contains("between -1 and") && Contains("not -7"));
}

TEST_CASE("the first of several complaints is told") {
  GenerateRequest request = good_request();
  request.temperature = 9;
  request.priority = INT64_MAX;
  CHECK(judge(request).param() == "temperature");
}

TEST_CASE("a completion longer than the context is refused before it waits for room") {
  GenerateRequest request = good_request();
  request.max_tokens = 1001;
  const Status status = judge(request);
  CHECK(status.detail() == "context_length_exceeded");
  CHECK_THAT(status.message(), Contains("1000") && Contains("1001"));
}

TEST_CASE("a model is served under its names and under no name") {
  const ServiceConfig config = service_config();
  CHECK(check_served(config, "").ok());
  CHECK(check_served(config, "m").ok());
  CHECK(check_served(config, "alias").ok());
  for (const std::string other : {"M", "m ", "m/", "ali", "other"}) {
    const Status status = check_served(config, other);
    CAPTURE(other);
    CHECK(status.code() == StatusCode::kNotFound);
    CHECK(status.param() == "model");
    CHECK(status.detail() == "model_not_found");
    CHECK_THAT(status.message(), Contains("'" + other + "'"));
  }
}

TEST_CASE("with any model accepted, other names stand for the served one") {
  ServiceConfig config = service_config();
  CHECK(name_in_answer(config, "m") == "m");
  CHECK(name_in_answer(config, "alias") == "alias");
  CHECK(name_in_answer(config, "") == "m");
  config.accepts_any_model = true;
  for (const std::string other : {"gpt-4o", "M", "m/", "/models/m", "alias2"}) {
    CAPTURE(other);
    CHECK(check_served(config, other).ok());
    CHECK(name_in_answer(config, other) == "m");
  }
  CHECK(name_in_answer(config, "alias") == "alias");
}

TEST_CASE("a model's name as long as a book is not repeated") {
  const Status status = check_served(service_config(), std::string(1'000'000, 'x'));
  CHECK(status.detail() == "model_not_found");
  CHECK(status.message().size() < 400);
}

TEST_CASE("choices are counted over the prompts") {
  GenerateRequest request = token_request({{1}, {2}, {3}});
  request.n = 4;
  CHECK(num_choices(request) == 12);
  request.input = GenerateRequest::ChatInput{};
  CHECK(num_choices(request) == 4);
  request.input = GenerateRequest::TextInput{{"a", "b"}};
  CHECK(num_choices(request) == 8);
}

TEST_CASE("counting the choices of an absurd request does not wrap around") {
  // Routes count before the service has judged the ranges.
  GenerateRequest request = token_request({{1}, {2}, {3}, {4}});
  request.n = INT64_MAX / 2;
  CHECK(num_choices(request) == INT64_MAX);
  request.n = INT64_MIN / 2;
  CHECK(num_choices(request) <= 0);
}

TEST_CASE("the estimate grows with the prompt and with what is asked for") {
  CHECK(estimate_tokens(token_request({{1, 2, 3}, {4}})) == 5);
  GenerateRequest text = good_request();
  text.input = GenerateRequest::TextInput{{std::string(3000, 'x')}};
  CHECK(estimate_tokens(text) == 1001);
  text.max_tokens = 50;
  text.n = 4;
  CHECK(estimate_tokens(text) == 1201);
  GenerateRequest chat;
  chat.input = GenerateRequest::ChatInput{{{"user", std::string(300, 'x')}}, {}};
  CHECK(estimate_tokens(chat) >= 101);
}

}  // namespace
}  // namespace quire
