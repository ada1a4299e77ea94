// A request means the same over gRPC as over HTTP.

#include <catch2/catch.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/bodies.h"
#include "tests/server/proto_twin.h"

namespace quire {
namespace {

void write_input(std::ostream& out, const GenerateRequest& request) {
  if (const auto* chat = std::get_if<GenerateRequest::ChatInput>(&request.input)) {
    for (const ChatMessage& message : chat->messages) {
      out << " message=" << message.role << ':' << message.content << message.more_json;
    }
    out << " tools=" << chat->options.tools_json << " kwargs=" << chat->options.kwargs_json;
    out << " generation_prompt=" << chat->options.add_generation_prompt
        << " continue=" << chat->options.continue_final_message;
  } else if (const auto* text = std::get_if<GenerateRequest::TextInput>(&request.input)) {
    for (const std::string& prompt : text->prompts) out << " text=" << prompt;
  } else {
    for (const auto& prompt : std::get<GenerateRequest::TokenInput>(request.input).prompts) {
      out << " ids=";
      for (const TokenId id : prompt) out << id << ',';
    }
  }
}

template <class T>
std::string shown(const std::optional<T>& value) {
  std::ostringstream out;
  value ? out << *value : out << "absent";
  return out.str();
}

/// Every field of a request.
std::string facts(const Result<GenerateRequest>& given) {
  if (!given.ok()) return "refused: " + given.status().param();
  const GenerateRequest& request = given.value();
  std::ostringstream out;
  out << "model=" << request.model << " chat=" << request.is_chat
      << " max=" << shown(request.max_tokens) << " min=" << request.min_tokens << " n=" << request.n
      << " ignore_eos=" << request.ignore_eos << " skip_special=" << request.skip_special_tokens
      << " echo=" << request.echo << " ids=" << request.return_token_ids
      << " progress=" << request.wants_progress << " temperature=" << shown(request.temperature)
      << " top_p=" << shown(request.top_p) << " min_p=" << shown(request.min_p)
      << " presence=" << request.presence_penalty << " frequency=" << request.frequency_penalty
      << " repetition=" << shown(request.repetition_penalty) << " top_k=" << shown(request.top_k)
      << " seed=" << shown(request.seed) << " logprobs=" << shown(request.top_logprobs)
      << " mode=" << shown(request.attention_mode)
      << " attention_top_k=" << shown(request.attention_top_k) << " priority=" << request.priority
      << " salt=" << request.cache_salt << " key=" << request.prompt_cache_key;
  for (const std::string& stop : request.stop) out << " stop=" << stop;
  for (const int64_t token : request.stop_token_ids) out << " stop_token=" << token;
  for (const auto& [token, bias] : request.logit_bias) out << " bias=" << token << ':' << bias;
  write_input(out, request);
  return out.str();
}

std::string chat_facts(const std::string& body) {
  Result<OpenAiRequest> parsed = parse_chat(body);
  REQUIRE(parsed.ok());
  return facts(parsed->request);
}

std::string completion_facts(const std::string& body) {
  Result<OpenAiRequest> parsed = parse_completion(body);
  REQUIRE(parsed.ok());
  return facts(parsed->request);
}

TEST_CASE("a bare chat has the same defaults over gRPC as over HTTP") {
  CHECK(facts(chat_from_proto(R"(messages { role: "user" content: "hi" })")) ==
        chat_facts(chat_body("")));
}

TEST_CASE("a bare completion has the same defaults over gRPC as over HTTP") {
  CHECK(facts(completion_from_proto(R"(prompts: "hi")")) == completion_facts(completion_body("")));
}

TEST_CASE("every option of a chat arrives as its JSON twin does") {
  const auto from_proto = chat_from_proto(R"(
      model: "m"
      messages { role: "system" content: "s" } messages { role: "assistant" content: "a" }
      continue_final_message: true
      options {
        max_tokens: 5 min_tokens: 2 n: 3 stop: "a" stop: "b" stop_token_ids: 4 ignore_eos: true
        skip_special_tokens: false return_token_ids: true return_progress: true temperature: 0
        top_p: 0.5 min_p: 0.125 top_k: 7 presence_penalty: -1 frequency_penalty: 1.5
        repetition_penalty: 1.25 seed: -9 logit_bias { key: 12 value: -100 } top_logprobs: 0
        attention { mode: "full" top_k: 6 } priority: -2 cache_salt: "s" prompt_cache_key: "k"
      })");
  const std::string from_json = chat_facts(R"({
      "model":"m",
      "messages":[{"role":"system","content":"s"},{"role":"assistant","content":"a"}],
      "continue_final_message":true,
      "max_tokens":5,"min_tokens":2,"n":3,"stop":["a","b"],"stop_token_ids":[4],
      "ignore_eos":true,"skip_special_tokens":false,"return_token_ids":true,
      "return_progress":true,"temperature":0,"top_p":0.5,"min_p":0.125,"top_k":7,
      "presence_penalty":-1,"frequency_penalty":1.5,"repetition_penalty":1.25,"seed":-9,
      "logit_bias":{"12":-100},"logprobs":true,"top_logprobs":0,
      "attention":{"mode":"full","top_k":6},"priority":-2,"cache_salt":"s",
      "prompt_cache_key":"k"})");
  CHECK(facts(from_proto) == from_json);
}

TEST_CASE("tools, calls and names for the template arrive as they were written") {
  const auto from_proto = chat_from_proto(R"(
      messages { role: "assistant" content: "a" name: "n\"\n\303\251" reasoning_content: ""
                 tool_calls_json: '[{"z": 1,"function":{"name":"f","arguments":"{}"}}]' }
      messages { role: "tool" content: "t" tool_call_id: "1" tool_calls_json: "[]" }
      tools_json: '[{"type":"function","function":{"name":"f","b":[1.0],"a":2}}]'
      chat_template_kwargs_json: '{"b": [true], "a": {}}' tool_choice: "auto")");
  CHECK(facts(from_proto) == chat_facts(R"({"messages":[
      {"role":"assistant","content":"a","name":"n\"\né","reasoning_content":"",
       "tool_calls":[{"z": 1,"function":{"name":"f","arguments":"{}"}}]},
      {"role":"tool","content":"t","tool_call_id":"1","tool_calls":[]}],
      "tools":[{"type":"function","function":{"name":"f","b":[1.0],"a":2}}],
      "chat_template_kwargs":{"b": [true], "a": {}},"tool_choice":"auto"})"));
  for (const std::string nothing :
       {"tools_json: '[]'", "tools_json: 'null'", "chat_template_kwargs_json: '{}'",
        R"(tools_json: '[{"type":"function","function":{"name":"f"}}]' tool_choice: "none")"}) {
    CAPTURE(nothing);
    CHECK(facts(chat_from_proto(R"(messages { role: "user" content: "hi" })" + nothing)) ==
          chat_facts(chat_body("")));
  }
}

TEST_CASE("what comes as JSON text is one value and no more, and is judged as over HTTP") {
  const std::string user = R"(messages { role: "user" content: "hi" } )";
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"tools_json: 'tools'", "tools"},
      {R"(tools_json: '[],"chat_template_kwargs":{"x":1}')", "tools"},
      {R"(tools_json: '[]} {')", "tools"},
      {R"(tools_json: '[]\000')", "tools"},
      {R"(tools_json: '{"a":1}')", "tools"},
      {R"(tools_json: '[{"type":"web_search"}]')", "tools[0].type"},
      {R"(tools_json: '[{"type":"function"}]')", "tools[0].function"},
      {R"(tool_choice: "required")", "tool_choice"},
      {R"(tool_choice: "auto\"")", "tool_choice"},
      {"chat_template_kwargs_json: '[1]'", "chat_template_kwargs"},
      {"chat_template_kwargs_json: '{'", "chat_template_kwargs"},
      {R"(chat_template_kwargs_json: '{"messages":[]}')", "chat_template_kwargs"},
      {R"(messages { role: "assistant" tool_calls_json: '{}' })", "messages[1].tool_calls"},
      {R"(messages { role: "assistant" tool_calls_json: '[' })", "messages[1].tool_calls"},
      {R"(messages { role: "assistant" tool_calls_json: '[],"name":"x"' })",
       "messages[1].tool_calls"}};
  for (const auto& [fields, param] : bad) {
    CAPTURE(fields);
    CHECK(facts(chat_from_proto(user + fields)) == "refused: " + param);
  }
  const std::string deep(100, '[');
  const std::string up(100, ']');
  CHECK_FALSE(chat_from_proto(user + "tools_json: '" + deep + up + "'").ok());
}

TEST_CASE("prompts of a completion are texts or token ids over gRPC too") {
  CHECK(facts(completion_from_proto(R"(prompts: "a" prompts: "b" echo: true)")) ==
        completion_facts(R"({"prompt":["a","b"],"echo":true})"));
  CHECK(facts(completion_from_proto("token_prompts { ids: 1 ids: 2 } token_prompts { ids: 3 }")) ==
        completion_facts(R"({"prompt":[[1,2],[3]]})"));
  CHECK(facts(completion_from_proto(R"(prompts: "a" token_prompts { ids: 1 })")) ==
        "refused: prompt");
  CHECK(facts(completion_from_proto(R"(prompts: "a" echo: true options { top_logprobs: 0 })")) ==
        "refused: echo");
}

TEST_CASE("events say over gRPC what they say over HTTP") {
  CHECK(proto_text_of(PrefillProgressEvent{.choice = 1, .queue_position = 3}) ==
        "queued { choice: 1 position: 3 }");
  CHECK(proto_text_of(PrefillProgressEvent{.choice = 1, .total = 9}) == "queued { choice: 1 }");
  CHECK(proto_text_of(PrefillProgressEvent{
            .choice = 1, .processed = 5, .total = 9, .cached = 4, .eta_ms = 70}) ==
        "progress { choice: 1 processed: 5 total: 9 cached: 4 eta_ms: 70 }");
  DeltaEvent delta{.choice = 2, .text = "x", .logprobs = {}, .token_ids = {7, 8}};
  delta.logprobs.push_back({.token_id = 7, .token_bytes = "\xc3", .logprob = -0.5f, .top = {}});
  delta.logprobs[0].top.push_back({.token_id = 9, .token_bytes = "y", .logprob = -2.0f, .top = {}});
  CHECK(proto_text_of(delta) ==
        R"(delta { choice: 2 text: "x" logprobs { token_id: 7 token: "\303" logprob: -0.5 )"
        R"(top { token_id: 9 token: "y" logprob: -2 } } token_ids: 7 token_ids: 8 })");
  CHECK(proto_text_of(ChoiceFinishedEvent{1, FinishReason::kLength}) ==
        R"(finished { choice: 1 reason: "length" })");
  CHECK(proto_text_of(ChoiceFinishedEvent{1, FinishReason::kStop}) ==
        R"(finished { choice: 1 reason: "stop" })");
  CHECK(proto_text_of(Usage{.prompt_tokens = 3,
                            .completion_tokens = 2,
                            .cached_tokens = 1,
                            .blocks_attended = 4,
                            .blocks_available = 8}) ==
        "usage { prompt_tokens: 3 completion_tokens: 2 cached_tokens: 1 blocks_attended: 4 "
        "blocks_available: 8 }");
}

}  // namespace
}  // namespace quire
