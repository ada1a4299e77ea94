#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/server/bodies.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;

std::vector<ChatMessage> messages_of(Result<OpenAiRequest>& parsed) {
  REQUIRE(parsed.ok());
  return std::get<GenerateRequest::ChatInput>(parsed->request.input).messages;
}

TEST_CASE("a chat body with nothing but messages has the documented defaults") {
  auto parsed = parse_chat(chat_body(""));
  const auto messages = messages_of(parsed);
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].role == "user");
  CHECK(messages[0].content == "hi");
  const GenerateRequest& request = parsed->request;
  CHECK(request.is_chat);
  CHECK(request.model.empty());
  CHECK_FALSE(request.max_tokens);
  CHECK(request.n == 1);
  CHECK_FALSE(request.temperature);
  CHECK_FALSE(request.top_p);
  CHECK_FALSE(request.min_p);
  CHECK_FALSE(request.repetition_penalty);
  CHECK_FALSE(request.top_k);
  CHECK_FALSE(request.seed);
  CHECK_FALSE(request.top_logprobs);
  CHECK(request.skip_special_tokens);
  CHECK_FALSE(request.ignore_eos);
  CHECK_FALSE(request.attention_mode);
  CHECK_FALSE(request.wants_progress);
  CHECK_FALSE(parsed->wants_stream);
  CHECK_FALSE(parsed->wants_usage_chunk);
  const auto& options = std::get<GenerateRequest::ChatInput>(request.input).options;
  CHECK(options.add_generation_prompt);
  CHECK_FALSE(options.continue_final_message);
}

TEST_CASE("every chat field arrives where it belongs") {
  auto parsed = parse_chat(chat_body(R"(
      "model":"m","max_tokens":5,"min_tokens":2,"n":3,"stop":["a","b"],"stop_token_ids":[4,5],
      "ignore_eos":true,"skip_special_tokens":false,"return_token_ids":true,"return_progress":true,
      "temperature":0.25,"top_p":0.5,"min_p":0.125,"top_k":7,"presence_penalty":-1,
      "frequency_penalty":1.5,"repetition_penalty":1.25,"seed":-9,"logit_bias":{"12":-100,"3":2.5},
      "logprobs":true,"top_logprobs":4,"attention":{"mode":"full","top_k":6},"priority":-2,
      "cache_salt":"s","prompt_cache_key":"k","stream":true,"stream_options":{"include_usage":true},
      "continue_final_message":true)"));
  REQUIRE(parsed.ok());
  const GenerateRequest& request = parsed->request;
  CHECK(request.model == "m");
  CHECK(request.max_tokens == 5);
  CHECK(request.min_tokens == 2);
  CHECK(request.n == 3);
  CHECK(request.stop == std::vector<std::string>{"a", "b"});
  CHECK(request.stop_token_ids == std::vector<int64_t>{4, 5});
  CHECK(request.ignore_eos);
  CHECK_FALSE(request.skip_special_tokens);
  CHECK(request.return_token_ids);
  CHECK(request.wants_progress);
  CHECK(request.temperature == 0.25);
  CHECK(request.top_p == 0.5);
  CHECK(request.min_p == 0.125);
  CHECK(request.top_k == 7);
  CHECK(request.presence_penalty == -1);
  CHECK(request.frequency_penalty == 1.5);
  CHECK(request.repetition_penalty == 1.25);
  CHECK(request.seed == -9);
  CHECK(request.logit_bias == std::vector<std::pair<int64_t, double>>{{12, -100}, {3, 2.5}});
  CHECK(request.top_logprobs == 4);
  CHECK(request.attention_mode == "full");
  CHECK(request.attention_top_k == 6);
  CHECK(request.priority == -2);
  CHECK(request.cache_salt == "s");
  CHECK(request.prompt_cache_key == "k");
  CHECK(parsed->wants_stream);
  CHECK(parsed->wants_usage_chunk);
  const auto& options = std::get<GenerateRequest::ChatInput>(request.input).options;
  CHECK(options.continue_final_message);
  CHECK_FALSE(options.add_generation_prompt);
}

TEST_CASE("a chat field of the wrong type is named in the complaint") {
  const std::vector<BadBody> bad = {
      {R"("model":5)", "model", "model must be a string"},
      {R"("max_tokens":"many")", "max_tokens", "max_tokens must be an integer"},
      {R"("max_tokens":1.5)", "max_tokens", "integer"},
      {R"("max_completion_tokens":[])", "max_completion_tokens", "integer"},
      {R"("max_completion_tokens":0)", "max_completion_tokens", "must be"},
      {R"("max_completion_tokens":1e12)", "max_completion_tokens", "must be"},
      {R"("min_tokens":true)", "min_tokens", "integer"},
      {R"("n":"2")", "n", "n must be an integer"},
      {R"("stop":7)", "stop", "string or a list of strings"},
      {R"("stop":["a",7])", "stop", "string or a list of strings"},
      {R"("stop":{})", "stop", "string or a list of strings"},
      {R"("stop_token_ids":5)", "stop_token_ids", "list of integers"},
      {R"("stop_token_ids":[1,"2"])", "stop_token_ids", "list of integers"},
      {R"("ignore_eos":1)", "ignore_eos", "true or false"},
      {R"("skip_special_tokens":"no")", "skip_special_tokens", "true or false"},
      {R"("return_token_ids":[])", "return_token_ids", "true or false"},
      {R"("return_progress":0)", "return_progress", "true or false"},
      {R"("temperature":"hot")", "temperature", "temperature must be a number"},
      {R"("top_p":true)", "top_p", "must be a number"},
      {R"("min_p":{})", "min_p", "must be a number"},
      {R"("top_k":0.5)", "top_k", "integer"},
      {R"("presence_penalty":"")", "presence_penalty", "must be a number"},
      {R"("frequency_penalty":[])", "frequency_penalty", "must be a number"},
      {R"("repetition_penalty":false)", "repetition_penalty", "must be a number"},
      {R"("seed":"x")", "seed", "integer"},
      {R"("logit_bias":[])", "logit_bias", "must be an object"},
      {R"("logit_bias":{"x":1})", "logit_bias", "no token id"},
      {R"("logit_bias":{"":1})", "logit_bias", "no token id"},
      {R"("logit_bias":{"1 ":1})", "logit_bias", "no token id"},
      {R"("logit_bias":{"99999999999999999999":1})", "logit_bias", "no token id"},
      {R"("logit_bias":{"1":"x"})", "logit_bias", "numbers"},
      {R"("logprobs":1)", "logprobs", "true or false"},
      {R"("logprobs":true,"top_logprobs":"3")", "top_logprobs", "integer"},
      {R"("top_logprobs":3)", "top_logprobs", "needs logprobs"},
      {R"("logprobs":false,"top_logprobs":3)", "top_logprobs", "needs logprobs"},
      {R"("attention":"full")", "attention", "must be an object"},
      {R"("attention":{"mode":1})", "attention.mode", "attention.mode must be a string"},
      {R"("attention":{"top_k":"8"})", "attention.top_k", "integer"},
      {R"("priority":"high")", "priority", "integer"},
      {R"("cache_salt":1)", "cache_salt", "string"},
      {R"("prompt_cache_key":[])", "prompt_cache_key", "string"},
      {R"("stream":"yes")", "stream", "true or false"},
      {R"("stream_options":{"include_usage":true})", "stream_options", "stream is true"},
      {R"("stream":true,"stream_options":[])", "stream_options", "must be an object"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage",
       "true or false"},
      {R"("add_generation_prompt":1)", "add_generation_prompt", "true or false"},
      {R"("continue_final_message":1)", "continue_final_message", "true or false"},
      {R"("chat_template_kwargs":[])", "chat_template_kwargs", "must be an object"}};
  for (const BadBody& body : bad) {
    auto parsed = parse_chat(chat_body(body.text));
    CAPTURE(body.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().code() == StatusCode::kInvalidArgument);
    CHECK(parsed.status().param() == body.param);
    CHECK_THAT(parsed.status().message(), Contains(body.message));
    CHECK_THAT(parsed.status().message(), Contains(body.param));
  }
}

TEST_CASE("null stands for an absent field") {
  for (const std::string field : {"model",
                                  "max_tokens",
                                  "max_completion_tokens",
                                  "min_tokens",
                                  "n",
                                  "stop",
                                  "stop_token_ids",
                                  "ignore_eos",
                                  "temperature",
                                  "top_p",
                                  "top_k",
                                  "min_p",
                                  "seed",
                                  "logit_bias",
                                  "logprobs",
                                  "top_logprobs",
                                  "attention",
                                  "priority",
                                  "cache_salt",
                                  "stream",
                                  "stream_options",
                                  "tools",
                                  "tool_choice",
                                  "response_format",
                                  "modalities",
                                  "chat_template_kwargs",
                                  "evidence"}) {
    CAPTURE(field);
    CHECK(parse_chat(chat_body("\"" + field + "\":null")).ok());
  }
}

TEST_CASE("what would change the answer and is not supported is refused by name") {
  const std::vector<BadBody> bad = {
      {R"("tools":[{"type":"web_search"}])", "tools[0].type", "not supported"},
      {R"("tool_choice":"required")", "tool_choice", "not supported"},
      {R"("tool_choice":{"type":"function"})", "tool_choice", "not supported"},
      {R"("functions":[{}])", "functions", "not supported"},
      {R"("evidence":{"max_spans":3})", "evidence", "not supported"},
      {R"("audio":{"voice":"x"})", "audio", "not supported"},
      {R"("modalities":["text","audio"])", "modalities", "not supported"},
      {R"("web_search_options":{"x":1})", "web_search_options", "not supported"},
      {R"("chat_template":"{{x}}")", "chat_template", "not supported"},
      {R"("guided_json":{"type":"object"})", "guided_json", "not supported"},
      {R"("best_of":2)", "best_of", "not supported"},
      {R"("response_format":{"type":"json_object"})", "response_format.type", "not supported"},
      {R"("response_format":{})", "response_format.type", "not supported"},
      {R"("response_format":"json")", "response_format", "must be an object"}};
  for (const BadBody& body : bad) {
    auto parsed = parse_chat(chat_body(body.text));
    CAPTURE(body.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == body.param);
    CHECK_THAT(parsed.status().message(), Contains(body.message));
  }
  for (const std::string key : {"messages", "tools", "documents", "chat_template",
                                "add_generation_prompt", "bos_token", "continue_final_message"}) {
    auto parsed = parse_chat(chat_body(R"("chat_template_kwargs":{")" + key + R"(":1})"));
    CAPTURE(key);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == "chat_template_kwargs");
    CHECK_THAT(parsed.status().message(), Contains(key));
  }
}

TEST_CASE("what changes nothing passes, unknown fields too") {
  for (const std::string fields :
       {R"("user":"u","store":true,"metadata":{"a":"b"},"service_tier":"auto")",
        R"("safety_identifier":"x","verbosity":"low","prediction":{"type":"content"})",
        R"("no_such_field":{"a":[1,{"b":null}]},"":7)", R"("tools":[],"tool_choice":"none")",
        R"("tool_choice":"auto","functions":[],"parallel_tool_calls":true)",
        R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto")",
        R"("modalities":["text"],"response_format":{"type":"text"},"best_of":1)",
        R"("web_search_options":{},"evidence":{},"top_logprobs":0)",
        R"("chat_template_kwargs":{"enable_thinking":false})"}) {
    CAPTURE(fields);
    CHECK(parse_chat(chat_body(fields)).ok());
  }
}

TEST_CASE("the newer name of the token limit wins over the older") {
  auto parsed = parse_chat(chat_body(R"("max_tokens":5,"max_completion_tokens":9)"));
  REQUIRE(parsed.ok());
  CHECK(parsed->request.max_tokens == 9);
}

TEST_CASE("content may be text or parts of text in their order") {
  auto parsed = parse_chat(R"({"messages":[
      {"role":"system","content":"s"},{"role":"developer","content":""},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"\u00e9"}]},
      {"role":"assistant","content":[]},{"role":"tool","content":"t","tool_call_id":"x"}]})");
  const auto messages = messages_of(parsed);
  REQUIRE(messages.size() == 5);
  CHECK(messages[0].role == "system");
  CHECK(messages[1].content.empty());
  CHECK(messages[2].content == "a\xc3\xa9");
  CHECK(messages[3].content.empty());
  CHECK(messages[4].role == "tool");
}

TEST_CASE("what a template reads keeps the text that it came as") {
  auto parsed =
      parse_chat(R"({"tools": [{"z":1,"type":"function","function":{"name":"b","a":[1.0]}}] ,
      "chat_template_kwargs":{"z":1,"a":{"y":"}","b":2}},
      "messages":[{"role":"user","content":"hi"},
                  {"content":null,"tool_calls":[{"z":"\"]","a":1}],"role":"assistant"},
                  {"role":"tool","content":"t","tool_call_id":"x","name":"\u00e9","other":1}]})");
  const auto messages = messages_of(parsed);
  const auto& options = std::get<GenerateRequest::ChatInput>(parsed->request.input).options;
  CHECK(options.tools_json == R"([{"z":1,"type":"function","function":{"name":"b","a":[1.0]}}] )");
  CHECK(options.kwargs_json == R"({"z":1,"a":{"y":"}","b":2}})");
  REQUIRE(messages.size() == 3);
  CHECK(messages[0].more_json.empty());
  CHECK(messages[1].more_json == R"({"tool_calls":[{"z":"\"]","a":1}]})");
  CHECK(messages[2].more_json == R"({"name":"\u00e9","tool_call_id":"x"})");
}

TEST_CASE("tools that the model may not call are not shown to it") {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}],)";
  auto parsed = parse_chat(chat_body(tools + R"("tool_choice":"none")"));
  REQUIRE(parsed.ok());
  CHECK(std::get<GenerateRequest::ChatInput>(parsed->request.input).options.tools_json.empty());
}

TEST_CASE("a bad tool is named with its place") {
  const std::vector<BadBody> bad = {
      {R"("tools":{"type":"function"})", "tools", "list"},
      {R"("tools":[7])", "tools[0]", "must be an object"},
      {R"("tools":[{"type":"function"}])", "tools[0].function", "required"},
      {R"("tools":[{"type":"function","function":[]}])", "tools[0].function", "must be an object"},
      {R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function.name",
       "string"}};
  for (const BadBody& body : bad) {
    auto parsed = parse_chat(chat_body(body.text));
    CAPTURE(body.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == body.param);
    CHECK_THAT(parsed.status().message(), Contains(body.message));
  }
}

TEST_CASE("a bad message is named with its place") {
  const std::string ok = R"({"role":"user","content":"hi"})";
  const std::vector<BadBody> bad = {
      {"5", "messages[1]", "must be an object"},
      {R"({"role":7,"content":"x"})", "messages[1].role", "string"},
      {R"({"role":"user"})", "messages[1].content", "required"},
      {R"({"role":"user","content":null})", "messages[1].content", "required"},
      {R"({"role":"user","content":5})", "messages[1].content", "string or a list"},
      {R"({"role":"user","content":[7]})", "messages[1].content[0]", "must be an object"},
      {R"({"role":"user","content":[{"text":"x"}]})", "messages[1].content[0].type", "type"},
      {R"({"role":"user","content":[{"type":"text","text":"x"},{"type":"text"}]})",
       "messages[1].content[1].text", "required"},
      {R"({"role":"user","content":[{"type":"text","text":5}]})", "messages[1].content[0].text",
       "string"},
      {R"({"role":"user","content":[{"type":"image_url"}]})", "messages[1].content[0].type",
       "image_url"},
      {R"({"role":"assistant","content":"x","tool_calls":{"id":"1"}})", "messages[1].tool_calls",
       "list"},
      {R"({"role":"assistant","tool_calls":[]})", "messages[1].content", "required"},
      {R"({"role":"tool","content":"x","tool_call_id":1})", "messages[1].tool_call_id", "string"},
      {R"({"role":"user","content":"x","name":["n"]})", "messages[1].name", "string"},
      {R"({"role":"assistant","content":"x","audio":{"id":"1"}})", "messages[1].audio",
       "not supported"}};
  for (const BadBody& body : bad) {
    auto parsed = parse_chat(R"({"messages":[)" + ok + "," + body.text + "]}");
    CAPTURE(body.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == body.param);
    CHECK_THAT(parsed.status().message(), Contains(body.message));
  }
  for (const std::string messages : {"null", "\"hi\"", "{}", "5"}) {
    auto parsed = parse_chat("{\"messages\":" + messages + "}");
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == "messages");
  }
  auto missing = parse_chat("{}");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().param() == "messages");
}

}  // namespace
}  // namespace quire
