// Long strings take a way of their own through the JSON text. Whatever they hold and wherever they
// stand, the result must be that of the parser alone.

#include "server/http/json_text.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

namespace quire {
namespace {

using Catch::Matchers::Contains;
using Json = nlohmann::json;

const std::string kFiller(5000, 'x');  // long enough to be treated as long

/// Pieces of a string's content, as written in JSON.
const std::vector<std::string> kWellFormed = {"a",
                                              "\\n",
                                              "\\\"",
                                              "\\\\",
                                              "\\/",
                                              "\\b\\f\\r\\t",
                                              "\\u0041",
                                              "\\u00e9",
                                              "\\u20AC",
                                              "\\u0000",
                                              "\\ud83d\\ude00",
                                              "\xC3\xA9",
                                              "\xE2\x82\xAC",
                                              "\xF0\x9F\x98\x80",
                                              "{",
                                              "}",
                                              "[",
                                              "]",
                                              ",",
                                              ":",
                                              "\x7F",
                                              "\\uD7FF\\uE000"};
const std::vector<std::string> kMalformed = {"\\x",
                                             "\\u12",
                                             "\\u12g4",
                                             "\\ud800",
                                             "\\udc00",
                                             "\\ud800\\u0041",
                                             "\\ud800\\n",
                                             "\n",
                                             "\x01",
                                             "\xFF",
                                             "\xC0\xAF",
                                             "\xED\xA0\x80",
                                             "\xF5\x80\x80\x80",
                                             "\xE2\x82",
                                             "\\ud800\\udbff"};

bool is_json_object(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  return json.is_object();
}

void check_same_as_parser(const std::string& text) {
  const Result<Json> ours = parse_json_object(text, JsonLimits{});
  REQUIRE(ours.ok() == is_json_object(text));
  if (ours.ok()) CHECK(ours.value() == Json::parse(text));
}

TEST_CASE("A long string holds what the parser reads in it, or is refused as it does") {
  for (const auto* pieces : {&kWellFormed, &kMalformed}) {
    for (const std::string& piece : *pieces) {
      CAPTURE(piece);
      for (const std::string& content :
           {piece + kFiller, kFiller + piece, kFiller + piece + kFiller}) {
        const std::string text = R"({"a":")" + content + R"("})";
        CHECK(is_json_object(text) == (pieces == &kWellFormed));
        check_same_as_parser(text);
      }
    }
  }
}

TEST_CASE("Long strings are found wherever they stand, and nothing else moves") {
  const std::string a = '"' + kFiller + "A\"", b = '"' + kFiller + "\\\"B\"";
  for (const std::string& text : {
           R"({"a":)" + a + R"(,"b":)" + b + "}",
           R"({"a":["","x",)" + a + R"(,{"c":)" + b + R"(},"y"],"d":"z"})",
           "{" + a + ":1,\"b\":" + b + "}",                 // a long name
           "{" + a + " \n:" + b + "," + b + ":" + a + "}",  // names and values
           R"({"a":)" + a + R"(,"a":)" + b + "}",           // a name twice
           R"({"a":)" + a + R"(,"b":"\"","c":)" + a + "}",
           R"({"a":)" + a + "," + b + "}",                 // no name
           R"({"a":)" + a + b + "}",                       // no comma
           R"({"a":)" + a + "} " + a,                      // text behind
           R"({"a":)" + a.substr(0, a.size() - 1),         // no end
           R"({"a":)" + a.substr(0, a.size() - 1) + "\\",  // an escape without its letter
           "[" + a + "]",
           a,
       }) {
    CAPTURE(text.substr(0, 8), text.substr(text.size() - 8));
    check_same_as_parser(text);
  }
}

TEST_CASE("Random texts with long strings read as the parser reads them") {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text = "{";
    for (int field = 0; field < 3; ++field) {
      text += (field > 0 ? ",\"" : "\"") + std::string(1, static_cast<char>('a' + field)) + "\":\"";
      const size_t length = random() % 2 == 0 ? 4096 + random() % 16 : random() % 16;
      while (text.size() % 8192 < length) {
        const bool is_bad = random() % 20000 == 0;
        const auto& pieces = is_bad ? kMalformed : kWellFormed;
        text += pieces[random() % pieces.size()];
      }
      text += '"';
    }
    text += '}';
    check_same_as_parser(text);
  }
}

TEST_CASE("A complaint behind a long string tells the place in the text as it came") {
  const std::string text = R"({"a":")" + kFiller + R"(","b":01})";
  const Result<Json> parsed = parse_json_object(text, JsonLimits{});
  REQUIRE(!parsed.ok());
  CHECK_THAT(parsed.status().message(), Contains("column " + std::to_string(text.size() - 1)));
}

TEST_CASE("Brackets and commas inside a long string do not count against the limits") {
  const std::string brackets(5000, '['), commas(5000, ',');
  const JsonLimits limits{.max_depth = 3, .max_values = 10};
  CHECK(parse_json_object(R"({"a":")" + brackets + commas + R"("})", limits).ok());
  CHECK(!parse_json_object(R"({"a":"\")" + kFiller + R"(",)" + "\"b\":" + brackets, limits).ok());
}

}  // namespace
}  // namespace quire
