// Bodies that are no JSON object, or one that nobody should have to hold in memory.

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/server/bodies.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;

const std::string kNul(1, '\0');

template <class T>
std::string message_of(const Result<T>& parsed) {
  if (parsed.ok()) return "accepted";
  CHECK(parsed.status().code() == StatusCode::kInvalidArgument);
  CHECK(parsed.status().detail().empty());
  return parsed.status().message();
}

std::string repeated(const std::string& piece, size_t times) {
  std::string text;
  text.reserve(piece.size() * times);
  for (size_t i = 0; i < times; ++i) text += piece;
  return text;
}

TEST_CASE("every route refuses a body that is no JSON object") {
  const std::vector<std::pair<std::string, std::string>> bodies = {
      {"", "empty"},
      {" \n", "not valid JSON"},
      {"null", "must be a JSON object"},
      {"[]", "must be a JSON object"},
      {"\"text\"", "must be a JSON object"},
      {"7", "must be a JSON object"},
      {"{", "not valid JSON"},
      {"{}{}", "not valid JSON"},
      {"{} x", "not valid JSON"},
      {"{'a':1}", "not valid JSON"},
      {"{\"a\":1,}", "not valid JSON"},
      {"{\"a\":01}", "not valid JSON"},
      {"{\"a\":NaN}", "not valid JSON"},
      {"{\"a\":Infinity}", "not valid JSON"},
      {"{\"a\":1e400}", "not valid JSON"},
      {"{\"a\":\"\\ud800\"}", "not valid JSON"},
      {"{\"a\":\"\\x41\"}", "not valid JSON"},
      {"{\"a\":\"line\nbreak\"}", "not valid JSON"},
      {"{\"a\":\"\xff\xfe\"}", "not valid JSON"},
      {"{\"a\":\"\xc0\xaf\"}", "not valid JSON"},
      {"{\"a\":\"\xed\xa0\x80\"}", "not valid JSON"},
      {"{\"a\":\"\xf5\x80\x80\x80\"}", "not valid JSON"},
      {"{\"a\":\"\xe4\xb8", "not valid JSON"},
      {"{\"\xff\":1}", "not valid JSON"},
      {"// note\n{}", "not valid JSON"},
  };
  const JsonLimits limits;
  for (const auto& [body, words] : bodies) {
    CAPTURE(body);
    CHECK_THAT(message_of(parse_chat_request(body, limits)), Contains(words));
    CHECK_THAT(message_of(parse_completion_request(body, limits)), Contains(words));
    CHECK_THAT(message_of(parse_tokenize_request(body, limits)), Contains(words));
    CHECK_THAT(message_of(parse_detokenize_request(body, limits)), Contains(words));
  }
}

TEST_CASE("a NUL byte is no end of the body") {
  CHECK_THAT(message_of(parse_chat(chat_body("") + kNul)), Contains("not valid JSON"));
  CHECK_THAT(message_of(parse_chat(chat_body("") + kNul + "{}")), Contains("not valid JSON"));
  CHECK_THAT(message_of(parse_chat(kNul + chat_body(""))), Contains("not valid JSON"));
  CHECK_THAT(message_of(parse_chat(R"({"model":"a)" + kNul + R"("})")), Contains("not valid JSON"));
}

TEST_CASE("an escaped NUL is a character like any other") {
  auto parsed = parse_chat(R"({"messages":[{"role":"user","content":"a\u0000b"}]})");
  REQUIRE(parsed.ok());
  const auto& input = std::get<GenerateRequest::ChatInput>(parsed->request.input);
  CHECK(input.messages.at(0).content == "a" + kNul + "b");
}

TEST_CASE("nesting is refused at the limit whatever brackets it is made of") {
  const JsonLimits limits{.max_depth = 8};
  for (const std::string bracket : {"[", "{\"a\":", "[{\"a\":"}) {
    const std::string body = R"({"x":)" + repeated(bracket, 100'000);
    CHECK_THAT(message_of(parse_chat_request(body, limits)), Contains("deeper than 8 levels"));
  }
  const auto nested = [](size_t depth) {
    return R"("x":)" + repeated("[", depth) + repeated("]", depth);
  };
  CHECK(parse_chat_request(chat_body(nested(7)), limits).ok());
  CHECK_FALSE(parse_chat_request(chat_body(nested(8)), limits).ok());
  CHECK(parse_chat(chat_body(nested(63))).ok());
  CHECK_FALSE(parse_chat(chat_body(nested(64))).ok());
}

TEST_CASE("brackets in texts are no nesting") {
  const JsonLimits limits{.max_depth = 8, .max_values = 16};
  const std::string brackets = repeated("[{,", 1000) + R"(\"[[[[[[[[[[\\)";
  const std::string body =
      R"({"messages":[{"role":"user","content":")" + brackets + R"("}],"n":2})";
  auto parsed = parse_chat_request(body, limits);
  REQUIRE(parsed.ok());
  CHECK(parsed->request.n == 2);
}

TEST_CASE("the number of values is bounded before any is built") {
  const JsonLimits limits{.max_depth = 8, .max_values = 1000};
  CHECK(parse_completion_request("{\"prompt\":[1" + repeated(",1", 900) + "]}", limits).ok());
  const std::string many = "{\"prompt\":[1" + repeated(",1", 1000) + "]}";
  CHECK_THAT(message_of(parse_completion_request(many, limits)), Contains("more than 1000 values"));
  const std::string empty_lists = "{\"x\":[" + repeated("[],", 1000) + "[]]}";
  CHECK_THAT(message_of(parse_completion_request(empty_lists, limits)),
             Contains("more than 1000 values"));
}

TEST_CASE("of a key given twice the last counts") {
  auto parsed = parse_chat(chat_body(R"("n":3,"temperature":0.5,"n":2)"));
  REQUIRE(parsed.ok());
  CHECK(parsed->request.n == 2);
  CHECK_FALSE(parse_chat(chat_body(R"("n":2,"n":"many")")).ok());
}

TEST_CASE("the complaint about a bad byte does not repeat the document around it") {
  const std::string document = repeated("All of Latin-1 was here. ", 40'000);
  const std::string body =
      R"({"messages":[{"role":"user","content":")" + document + "caf\xe9 au lait" + R"("}]})";
  const std::string message = message_of(parse_chat(body));
  CHECK_THAT(message, Contains("not valid JSON") && Contains("UTF-8"));
  CHECK_THAT(message, Contains("column"));  // where to look
  CHECK_THAT(message, Contains("caf"));     // what stands there
  CHECK(message.size() < 300);
}

TEST_CASE("whole numbers are read exactly or not at all") {
  const std::vector<std::pair<std::string, int64_t>> good = {{"9223372036854775807", INT64_MAX},
                                                             {"-9223372036854775808", INT64_MIN},
                                                             {"9007199254740993", 9007199254740993},
                                                             {"3.0", 3},
                                                             {"1e3", 1000},
                                                             {"-0", 0}};
  for (const auto& [text, number] : good) {
    auto parsed = parse_chat(chat_body("\"seed\":" + text));
    CAPTURE(text);
    REQUIRE(parsed.ok());
    CHECK(parsed->request.seed == number);
  }
  for (const std::string text : {"9223372036854775808", "18446744073709551615", "1e30", "-1e30",
                                 "1180591620717411303424", "1.5", "9007199254740993.5e1"}) {
    auto parsed = parse_chat(chat_body("\"seed\":" + text));
    CAPTURE(text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.status().param() == "seed");
    CHECK_THAT(parsed.status().message(), Contains("integer"));
  }
}

}  // namespace
}  // namespace quire
