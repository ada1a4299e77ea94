#include "server/http/openai_format.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

const AnswerIdentity kChat{.route = OpenAiRoute::kChat,
                           .id = "chatcmpl-1",
                           .created = 1700000000,
                           .model = "m",
                           .system_fingerprint = "fp_1"};
const AnswerIdentity kCompletion{.route = OpenAiRoute::kCompletion,
                                 .id = "cmpl-1",
                                 .created = 1700000000,
                                 .model = "m",
                                 .system_fingerprint = "fp_1"};
const Usage kUsage{.prompt_tokens = 9,
                   .completion_tokens = 12,
                   .cached_tokens = 4,
                   .blocks_attended = 30,
                   .blocks_available = 100};
const std::string kUsageText =
    R"("usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,)"
    R"("prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":)"
    R"({"reasoning_tokens":0},"attention":{"blocks_attended":30,"blocks_available":100}})";

AnswerIdentity with_usage_field(AnswerIdentity identity) {
  identity.has_usage_field = true;
  return identity;
}
AnswerIdentity with_logprobs(AnswerIdentity identity) {
  identity.has_logprobs = true;
  return identity;
}
AnswerIdentity with_token_ids(AnswerIdentity identity) {
  identity.has_token_ids = true;
  return identity;
}

/// A token that is half of a two-byte character, an alternative beside it.
TokenLogprobText half_character() {
  TokenLogprobText entry{.token_id = 5, .token_bytes = "\xc3", .logprob = -0.5f, .top = {}};
  entry.top.push_back({.token_id = 5, .token_bytes = "\xc3", .logprob = -0.5f, .top = {}});
  entry.top.push_back({.token_id = 6, .token_bytes = "x", .logprob = -2.0f, .top = {}});
  return entry;
}

TEST_CASE("a whole chat answer has the documented shape") {
  const std::vector<CollectedChoice> choices = {
      {.text = "yes", .logprobs = {}, .token_ids = {}, .reason = FinishReason::kStop},
      {.text = "\xc3\xa9\"\n", .logprobs = {}, .token_ids = {}, .reason = FinishReason::kLength}};
  CHECK(format_answer(kChat, choices, kUsage) ==
        R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m",)"
        R"("choices":[{"index":0,"message":{"role":"assistant","content":"yes","refusal":null,)"
        R"("annotations":[]},"logprobs":null,"finish_reason":"stop"},)"
        R"({"index":1,"message":{"role":"assistant","content":"é\"\n","refusal":null,)"
        R"("annotations":[]},"logprobs":null,"finish_reason":"length"}],)" +
            kUsageText + R"(,"system_fingerprint":"fp_1"})");
}

TEST_CASE("a whole completion has the older shape") {
  const std::vector<CollectedChoice> choices = {
      {.text = "yes", .logprobs = {}, .token_ids = {}, .reason = FinishReason::kLength}};
  CHECK(format_answer(kCompletion, choices, kUsage) ==
        R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m",)"
        R"("choices":[{"index":0,"text":"yes","logprobs":null,"finish_reason":"length"}],)" +
            kUsageText + R"(,"system_fingerprint":"fp_1"})");
}

TEST_CASE("token ids are there when asked for and only then") {
  const std::vector<CollectedChoice> choices = {
      {.text = "a", .logprobs = {}, .token_ids = {7, 8}, .reason = FinishReason::kStop}};
  const Json asked = Json::parse(format_answer(with_token_ids(kChat), choices, kUsage));
  CHECK(asked["choices"][0]["token_ids"] == Json({7, 8}));
  const Json plain = Json::parse(format_answer(kChat, choices, kUsage));
  CHECK_FALSE(plain["choices"][0].contains("token_ids"));
  const DeltaEvent delta{.choice = 0, .text = "a", .logprobs = {}, .token_ids = {7}};
  const Json chunk = Json::parse(format_delta_chunk(with_token_ids(kChat), delta, 0));
  CHECK(chunk["choices"][0]["token_ids"] == Json({7}));
}

TEST_CASE("a chat logprob has its bytes where the text has a replacement") {
  const std::vector<CollectedChoice> choices = {{.text = "?",
                                                 .logprobs = {half_character()},
                                                 .token_ids = {},
                                                 .reason = FinishReason::kStop}};
  const Json answer = Json::parse(format_answer(with_logprobs(kChat), choices, kUsage));
  CHECK(answer["choices"][0]["logprobs"] ==
        Json::parse(R"({"content":[{"token":"\ufffd","logprob":-0.5,"bytes":[195],
            "top_logprobs":[{"token":"\ufffd","logprob":-0.5,"bytes":[195]},
                            {"token":"x","logprob":-2.0,"bytes":[120]}]}],"refusal":null})"));
  const std::vector<CollectedChoice> empty(1);
  const Json none = Json::parse(format_answer(with_logprobs(kChat), empty, kUsage));
  CHECK(none["choices"][0]["logprobs"]["content"] == Json::array());
}

TEST_CASE("completion logprobs are parallel lists with byte offsets") {
  DeltaEvent delta{.choice = 0, .text = "ab", .logprobs = {half_character()}, .token_ids = {}};
  delta.logprobs.push_back({.token_id = 1, .token_bytes = "abc", .logprob = -1.0f, .top = {}});
  delta.logprobs.push_back({.token_id = 2, .token_bytes = "d", .logprob = -3.0f, .top = {}});
  const Json chunk = Json::parse(format_delta_chunk(with_logprobs(kCompletion), delta, 40));
  CHECK(chunk["choices"][0]["logprobs"] ==
        Json::parse(R"({"tokens":["\ufffd","abc","d"],"token_logprobs":[-0.5,-1.0,-3.0],
            "top_logprobs":[{"\ufffd":-0.5,"x":-2.0},{"abc":-1.0},{"d":-3.0}],
            "text_offset":[40,41,44]})"));
}

TEST_CASE("chat chunks have the documented shape") {
  CHECK(format_role_chunk(kChat, 2) ==
        R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",)"
        R"("system_fingerprint":"fp_1","choices":[{"index":2,"delta":{"role":"assistant",)"
        R"("content":""},"logprobs":null,"finish_reason":null}]})");
  const DeltaEvent delta{.choice = 1, .text = "word", .logprobs = {}, .token_ids = {}};
  CHECK(format_delta_chunk(kChat, delta, 0) ==
        R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",)"
        R"("system_fingerprint":"fp_1","choices":[{"index":1,"delta":{"content":"word"},)"
        R"("logprobs":null,"finish_reason":null}]})");
  CHECK(format_finish_chunk(with_usage_field(kChat), 0, FinishReason::kStop) ==
        R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",)"
        R"("system_fingerprint":"fp_1","choices":[{"index":0,"delta":{},"logprobs":null,)"
        R"("finish_reason":"stop"}],"usage":null})");
  CHECK(format_usage_chunk(with_usage_field(kChat), kUsage) ==
        R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",)"
        R"("system_fingerprint":"fp_1","choices":[],)" +
            kUsageText + "}");
}

TEST_CASE("completion chunks have text and no delta") {
  const DeltaEvent delta{.choice = 1, .text = "word", .logprobs = {}, .token_ids = {}};
  CHECK(format_delta_chunk(with_usage_field(kCompletion), delta, 0) ==
        R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m",)"
        R"("system_fingerprint":"fp_1","choices":[{"index":1,"text":"word","logprobs":null,)"
        R"("finish_reason":null}],"usage":null})");
  CHECK(format_finish_chunk(kCompletion, 0, FinishReason::kLength) ==
        R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m",)"
        R"("system_fingerprint":"fp_1","choices":[{"index":0,"text":"","logprobs":null,)"
        R"("finish_reason":"length"}]})");
}

TEST_CASE("progress travels in a chunk without choices") {
  const PrefillProgressEvent progress{.choice = 0,
                                      .processed = 512,
                                      .total = 2048,
                                      .cached = 128,
                                      .eta_ms = 900,
                                      .queue_position = 3};
  const Json chunk = Json::parse(format_progress_chunk(with_usage_field(kChat), progress, 300));
  CHECK(chunk["choices"] == Json::array());
  CHECK(chunk["usage"] == nullptr);
  CHECK(chunk["id"] == "chatcmpl-1");
  CHECK(chunk["prompt_progress"] ==
        Json::parse(R"({"choice":0,"total":2048,"cache":128,"cached":128,"processed":512,
                        "time_ms":300,"eta_ms":900,"queue_position":3})"));
  CHECK_FALSE(Json::parse(format_progress_chunk(kChat, progress, 0)).contains("usage"));
}

TEST_CASE("no chunk has a line break") {
  const DeltaEvent delta{.choice = 0, .text = "a\nb\r\n", .logprobs = {}, .token_ids = {}};
  const std::string chunk = format_delta_chunk(kChat, delta, 0);
  CHECK(chunk.find_first_of("\r\n") == std::string::npos);
  CHECK(Json::parse(chunk)["choices"][0]["delta"]["content"] == "a\nb\r\n");
}

TEST_CASE("models are listed under each of their names") {
  ServiceConfig config;
  config.model_name = "m";
  config.model_aliases = {"alias"};
  config.created = 1700000000;
  config.max_model_len = 4096;
  CHECK(format_model(config, "m") ==
        R"({"id":"m","object":"model","created":1700000000,"owned_by":"quire",)"
        R"("max_model_len":4096})");
  const Json list = Json::parse(format_models(config));
  CHECK(list["object"] == "list");
  REQUIRE(list["data"].size() == 2);
  CHECK(list["data"][0] == Json::parse(format_model(config, "m")));
  CHECK(list["data"][1]["id"] == "alias");
}

TEST_CASE("tokens and text come back in the shapes of tokenize and detokenize") {
  CHECK(format_tokens({1, 5, 9}, 4096) == R"({"count":3,"max_model_len":4096,"tokens":[1,5,9]})");
  CHECK(format_tokens({}, 4096) == R"({"count":0,"max_model_len":4096,"tokens":[]})");
  CHECK(format_text("a\"\xc3\xa9") == R"({"prompt":"a\"é"})");
  CHECK(format_text("a\xff") == R"({"prompt":"a�"})");
}

}  // namespace
}  // namespace quire
