// The order of what goes to a client, from the events of a generation.

#include "server/http/openai_stream.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

/// Writes down what happens: "begin", "end", "respond <status>", and pieces as they are.
class Record final : public AnswerChannel {
 public:
  void respond(HttpAnswer answer) override {
    log.push_back("respond " + std::to_string(answer.status));
    body = answer.body;
    headers = answer.headers;
  }
  void begin_stream() override { log.push_back("begin"); }
  void send(std::string piece) override { log.push_back(std::move(piece)); }
  void end_stream() override { log.push_back("end"); }

  /// The JSON of an entry, which must be one whole event.
  Json event(size_t idx) const {
    const std::string& piece = log.at(idx);
    REQUIRE(piece.starts_with("data: "));
    REQUIRE(piece.ends_with("\n\n"));
    return Json::parse(piece.substr(6));
  }

  std::vector<std::string> log;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

DeltaEvent delta(int32_t choice, const std::string& text) {
  return {.choice = choice, .text = text, .logprobs = {}, .token_ids = {}};
}

AnswerIdentity identity_of(OpenAiRoute route, const std::string& id) {
  AnswerIdentity identity;
  identity.route = route;
  identity.id = id;
  identity.model = "m";
  return identity;
}
const AnswerIdentity kChat = identity_of(OpenAiRoute::kChat, "chatcmpl-1");
const AnswerIdentity kCompletion = identity_of(OpenAiRoute::kCompletion, "cmpl-1");

TEST_CASE("a chat stream is role, deltas, finish, usage and the end mark") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_event_stream(kChat, true, record);
  stream->on_event(AdmittedEvent{{3}});
  CHECK(record->log == std::vector<std::string>{"begin"});  // no chunk before the first token
  stream->on_event(delta(0, "a"));
  stream->on_event(delta(0, "b"));
  stream->on_event(ChoiceFinishedEvent{0, FinishReason::kLength});
  stream->on_event(DoneEvent{{}, {.prompt_tokens = 3, .completion_tokens = 2}, {}});
  REQUIRE(record->log.size() == 8);
  CHECK(record->event(1)["choices"][0]["delta"] == Json({{"role", "assistant"}, {"content", ""}}));
  CHECK(record->event(2)["choices"][0]["delta"] == Json({{"content", "a"}}));
  CHECK(record->event(3)["choices"][0]["delta"] == Json({{"content", "b"}}));
  CHECK(record->event(4)["choices"][0]["finish_reason"] == "length");
  for (size_t i = 1; i <= 4; ++i) CHECK(record->event(i).at("usage") == nullptr);
  CHECK(record->event(5)["choices"] == Json::array());
  CHECK(record->event(5)["usage"]["total_tokens"] == 5);
  for (size_t i = 1; i <= 5; ++i) CHECK(record->event(i)["id"] == "chatcmpl-1");
  CHECK(record->log[6] == "data: [DONE]\n\n");
  CHECK(record->log[7] == "end");
}

TEST_CASE("without include_usage no chunk speaks of usage") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_event_stream(kChat, false, record);
  stream->on_event(AdmittedEvent{{3}});
  stream->on_event(delta(0, "a"));
  stream->on_event(ChoiceFinishedEvent{0, FinishReason::kStop});
  stream->on_event(DoneEvent{{}, {}, {}});
  REQUIRE(record->log.size() == 6);
  for (size_t i = 1; i <= 3; ++i) CHECK_FALSE(record->event(i).contains("usage"));
  CHECK(record->log[4] == "data: [DONE]\n\n");
}

TEST_CASE("every choice has one role chunk, with its first token") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_event_stream(kChat, false, record);
  stream->on_event(AdmittedEvent{{3}});
  stream->on_event(delta(1, "x"));
  stream->on_event(delta(0, "y"));
  stream->on_event(delta(1, "z"));
  stream->on_event(ChoiceFinishedEvent{2, FinishReason::kStop});  // a choice without text
  std::vector<std::pair<int, bool>> seen;                         // choice, has a role
  for (size_t i = 1; i < record->log.size(); ++i) {
    const Json choice = record->event(i)["choices"][0];
    seen.emplace_back(choice["index"].get<int>(), choice["delta"].contains("role"));
  }
  CHECK(seen ==
        std::vector<std::pair<int, bool>>{
            {1, true}, {1, false}, {0, true}, {0, false}, {1, false}, {2, true}, {2, false}});
}

TEST_CASE("a completion stream has no role and counts the offsets of each choice") {
  const auto record = std::make_shared<Record>();
  AnswerIdentity identity = kCompletion;
  identity.has_logprobs = true;
  const auto stream = make_event_stream(identity, false, record);
  stream->on_event(AdmittedEvent{{3}});
  const auto send = [&](int32_t choice, const std::string& text) {
    DeltaEvent event = delta(choice, text);
    event.logprobs.push_back({.token_id = 1, .token_bytes = text, .logprob = -1, .top = {}});
    stream->on_event(std::move(event));
  };
  send(0, "abc");
  send(1, "x");
  send(0, "d");
  REQUIRE(record->log.size() == 4);
  CHECK(record->event(1)["choices"][0]["text"] == "abc");
  CHECK(record->event(1)["choices"][0]["logprobs"]["text_offset"] == Json({0}));
  CHECK(record->event(2)["choices"][0]["logprobs"]["text_offset"] == Json({0}));
  CHECK(record->event(3)["choices"][0]["logprobs"]["text_offset"] == Json({3}));
}

TEST_CASE("progress is sent until tokens flow") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_event_stream(kChat, false, record);
  stream->on_event(AdmittedEvent{{3}});
  stream->on_event(PrefillProgressEvent{.processed = 1, .total = 3});
  stream->on_event(delta(0, "a"));
  stream->on_event(PrefillProgressEvent{.choice = 1, .processed = 3, .total = 3});
  REQUIRE(record->log.size() == 4);
  CHECK(record->event(1)["prompt_progress"]["processed"] == 1);
  CHECK(record->event(1)["choices"] == Json::array());
}

TEST_CASE("a refusal before admission is a plain answer and never a stream") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_event_stream(kChat, true, record);
  stream->on_event(DoneEvent{Status(StatusCode::kResourceExhausted, "full"), {}, 1.5});
  CHECK(record->log == std::vector<std::string>{"respond 429"});
  CHECK(Json::parse(record->body)["error"]["code"] == "rate_limit_exceeded");
  REQUIRE(record->headers.size() == 1);
  CHECK(record->headers[0] == std::pair<std::string, std::string>("Retry-After", "2"));
}

TEST_CASE("a failure in the stream is an error event and then the end without its mark") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_event_stream(kChat, true, record);
  stream->on_event(AdmittedEvent{{3}});
  stream->on_event(delta(0, "a"));
  stream->on_event(DoneEvent{Status(StatusCode::kDeadlineExceeded, "too late"), {}, {}});
  REQUIRE(record->log.size() == 5);
  CHECK(record->event(3)["error"]["code"] == "deadline_exceeded");
  CHECK(record->event(3)["error"]["message"] == "too late");
  CHECK(record->log[4] == "end");
}

TEST_CASE("a whole answer is collected from interleaved choices") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_collecting_stream(kChat, 2, record);
  stream->on_event(AdmittedEvent{{3}});
  stream->on_event(PrefillProgressEvent{.processed = 1, .total = 3});
  stream->on_event(delta(1, "x"));
  stream->on_event(delta(0, "a"));
  stream->on_event(delta(1, "y"));
  stream->on_event(ChoiceFinishedEvent{1, FinishReason::kLength});
  stream->on_event(ChoiceFinishedEvent{0, FinishReason::kStop});
  CHECK(record->log.empty());
  stream->on_event(DoneEvent{{}, {.prompt_tokens = 3, .completion_tokens = 3}, {}});
  CHECK(record->log == std::vector<std::string>{"respond 200"});
  const Json answer = Json::parse(record->body);
  CHECK(answer["choices"][0]["message"]["content"] == "a");
  CHECK(answer["choices"][0]["finish_reason"] == "stop");
  CHECK(answer["choices"][1]["message"]["content"] == "xy");
  CHECK(answer["choices"][1]["finish_reason"] == "length");
  CHECK(answer["usage"]["total_tokens"] == 6);
}

TEST_CASE("a failure after text was collected is an error and not half an answer") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_collecting_stream(kChat, 1, record);
  stream->on_event(AdmittedEvent{{3}});
  stream->on_event(delta(0, "half"));
  stream->on_event(DoneEvent{Status(StatusCode::kInternal, "broken"), {}, {}});
  CHECK(record->log == std::vector<std::string>{"respond 500"});
  CHECK_FALSE(Json::parse(record->body).contains("choices"));
}

TEST_CASE("an event for a choice that does not exist answers with a failure") {
  const auto record = std::make_shared<Record>();
  const auto stream = make_collecting_stream(kChat, 1, record);
  stream->on_event(delta(1, "x"));
  CHECK(record->log == std::vector<std::string>{"respond 500"});
}

}  // namespace
}  // namespace quire
