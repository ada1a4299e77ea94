// Bodies of /v1/completions, /tokenize and /detokenize.

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/server/bodies.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;
using Prompts = std::vector<std::string>;
using IdPrompts = std::vector<std::vector<TokenId>>;

Result<OpenAiRequest> parse_prompt(const std::string& prompt) {
  return parse_completion("{\"prompt\":" + prompt + "}");
}

Prompts texts_of(const std::string& prompt) {
  auto parsed = parse_prompt(prompt);
  REQUIRE(parsed.ok());
  return std::get<GenerateRequest::TextInput>(parsed->request.input).prompts;
}

IdPrompts ids_of(const std::string& prompt) {
  auto parsed = parse_prompt(prompt);
  REQUIRE(parsed.ok());
  return std::get<GenerateRequest::TokenInput>(parsed->request.input).prompts;
}

TEST_CASE("a prompt may be a text, texts, token ids or lists of them") {
  CHECK(texts_of(R"("once")") == Prompts{"once"});
  CHECK(texts_of(R"("")") == Prompts{""});
  CHECK(texts_of(R"(["a","","b"])") == Prompts{"a", "", "b"});
  CHECK(ids_of("[1,2.0,3]") == IdPrompts{{1, 2, 3}});
  CHECK(ids_of("[[1],[2,3]]") == IdPrompts{{1}, {2, 3}});
  // Refused later: ranges are not the parser's.
  CHECK(ids_of("[[]]") == IdPrompts{{}});
  CHECK(ids_of("[-1]") == IdPrompts{{-1}});
  CHECK(ids_of("[4294967297,-9223372036854775808]") == IdPrompts{{INT32_MAX, -1}});
}

TEST_CASE("a prompt of another shape is refused") {
  for (const std::string prompt :
       {"5", "{}", "true", "[]", "[null]", "[{}]", R"(["a",1])", R"([1,"a"])", R"([[1],"a"])",
        R"([[1],2])", "[1.5]", "[9223372036854775808]", "[[1,[2]]]", R"([["a"]])", "null"}) {
    auto parsed = parse_prompt(prompt);
    CAPTURE(prompt);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == "prompt");
    CHECK_THAT(parsed.status().message(), Contains("prompt"));
  }
  auto missing = parse_completion("{}");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().param() == "prompt");
}

TEST_CASE("completion fields arrive where they belong") {
  auto parsed = parse_completion(completion_body(R"("echo":true,"max_tokens":3,"seed":7)"));
  REQUIRE(parsed.ok());
  CHECK_FALSE(parsed->request.is_chat);
  CHECK(parsed->request.echo);
  CHECK(parsed->request.max_tokens == 3);
  CHECK(parsed->request.seed == 7);
  CHECK_FALSE(parsed->request.top_logprobs);
  auto with_logprobs = parse_completion(completion_body(R"("logprobs":0)"));
  REQUIRE(with_logprobs.ok());
  CHECK(with_logprobs->request.top_logprobs == 0);
}

TEST_CASE("a bad completion field is named in the complaint") {
  const std::vector<BadBody> bad = {{R"("echo":"yes")", "echo", "true or false"},
                                    {R"("logprobs":true)", "logprobs", "integer"},
                                    {R"("logprobs":-1)", "logprobs", "between 0 and 20"},
                                    {R"("logprobs":21)", "logprobs", "between 0 and 20"},
                                    {R"("echo":true,"logprobs":1)", "echo", "logprobs"},
                                    {R"("suffix":"end")", "suffix", "not supported"},
                                    {R"("best_of":3)", "best_of", "not supported"},
                                    {R"("temperature":[])", "temperature", "number"}};
  for (const BadBody& body : bad) {
    auto parsed = parse_completion(completion_body(body.text));
    CAPTURE(body.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == body.param);
    CHECK_THAT(parsed.status().message(), Contains(body.message));
  }
}

TEST_CASE("chat fields mean nothing to a completion") {
  auto parsed = parse_completion(completion_body(
      R"("messages":5,"max_completion_tokens":"x","chat_template_kwargs":{"messages":1})"));
  REQUIRE(parsed.ok());
  CHECK_FALSE(parsed->request.max_tokens);
}

TEST_CASE("tokenize takes a prompt or a conversation, and its options") {
  auto plain = parse_tokenize_request(R"({"prompt":"a\u00e9"})", {});
  REQUIRE(plain.ok());
  CHECK(std::get<std::string>(plain->input) == "a\xc3\xa9");
  CHECK(plain->add_special_tokens);
  CHECK(plain->model.empty());
  auto full =
      parse_tokenize_request(R"({"model":"m","prompt":"","add_special_tokens":false,"x":1})", {});
  REQUIRE(full.ok());
  CHECK(full->model == "m");
  CHECK_FALSE(full->add_special_tokens);
  auto talk = parse_tokenize_request(
      R"({"messages":[{"role":"user","content":"a"}],"add_generation_prompt":false})", {});
  REQUIRE(talk.ok());
  const auto& chat = std::get<GenerateRequest::ChatInput>(talk->input);
  CHECK(chat.messages.at(0).content == "a");
  CHECK_FALSE(chat.options.add_generation_prompt);
  CHECK_FALSE(talk->add_special_tokens);
  const std::vector<BadBody> bad = {
      {R"({"messages":[],"prompt":"a"})", "prompt", "absent"},
      {R"({"messages":5})", "messages", "list"},
      {"{}", "prompt", "required"},
      {R"({"prompt":null})", "prompt", "required"},
      {R"({"prompt":["a"]})", "prompt", "string"},
      {R"({"prompt":"a","add_special_tokens":1})", "add_special_tokens", "true or false"},
      {R"({"prompt":"a","model":[]})", "model", "string"}};
  for (const BadBody& body : bad) {
    const auto parsed = parse_tokenize_request(body.text, {});
    CAPTURE(body.text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == body.param);
    CHECK_THAT(parsed.status().message(), Contains(body.message));
  }
}

TEST_CASE("detokenize takes a list of ids and leaves their range to the tokenizer") {
  auto parsed = parse_detokenize_request(R"({"model":"m","tokens":[0,5,-1,99999999999]})", {});
  REQUIRE(parsed.ok());
  CHECK(parsed->tokens == std::vector<int64_t>{0, 5, -1, 99999999999});
  CHECK(parsed->model == "m");
  auto empty = parse_detokenize_request(R"({"tokens":[]})", {});
  REQUIRE(empty.ok());
  CHECK(empty->tokens.empty());
  for (const std::string body :
       {R"({})", R"({"tokens":null})", R"({"tokens":5})", R"({"tokens":"1 2"})",
        R"({"tokens":[1,"2"]})", R"({"tokens":[1.5]})", R"({"tokens":[[1]]})"}) {
    const auto refused = parse_detokenize_request(body, {});
    CAPTURE(body);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.status().param() == "tokens");
    CHECK_THAT(refused.status().message(), Contains("tokens"));
  }
}

}  // namespace
}  // namespace quire
