#include "models/strict_json.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;
using Json = nlohmann::json;

std::string error_of(const std::string& text, int max_depth = 4) {
  return load_error_of([&] { parse_json(text, "a.json", max_depth); });
}

TEST_CASE("strict JSON: a sound document is what nlohmann::json makes of it") {
  for (const std::string text :
       {"null", "true", "-7", "18446744073709551615", "1.5e-3", "\"\\u00e9\\n\"", "[]", "{}",
        R"([1, [2, [3, []], {"a": []}], {"b": {"c": [4, {}]}}, 5])",
        R"({"z": 1, "a": {"z": [null, false, -1, 0.5, "x"], "": {}}, "b": [[], [[]]], "c": "d"})",
        " [ {\"same\": 1}, {\"same\": 2} ] "}) {
    CAPTURE(text);
    CHECK(parse_json(text, "a.json", 8) == Json::parse(text));
  }
}

TEST_CASE("strict JSON: a key that stands twice in an object is refused") {
  CHECK(error_of(R"({"a": {"b": 1}, "b": {"a": 1}})") == "");
  CHECK(error_of(R"({"a": 1, "b": {}, "a": 2})") == R"(a.json: key "a" stands twice)");
  CHECK_THAT(error_of(R"([[{"b": [], "c": {"b": 1}, "b": []}]])"),
             Contains("key \"b\" stands twice"));
  CHECK_THAT(error_of(R"({"\u0061": null, "a": null})"), Contains("key \"a\" stands twice"));
}

TEST_CASE("strict JSON: objects and lists nest as deep as they may, and no deeper") {
  CHECK(error_of(R"([{"a": [{}]}])") == "");
  CHECK(error_of("[[],[[[]]],[]]") == "");
  CHECK(error_of(R"([{"a": [{"b": []}]}])") == "a.json: JSON nested deeper than 4");
  CHECK(error_of("[]", 0) == "a.json: JSON nested deeper than 0");
  CHECK(error_of("1", 0) == "");
}

TEST_CASE("strict JSON: what is no JSON is refused by the file's name") {
  for (const std::string text : {"", " ", "{", "[1", "[1,]", "{\"a\"}", "{\"a\": 1,}", "1 2",
                                 "[] []", "nul", "\"\xff\"", "1e999", "{1: 2}", "'a'"}) {
    CAPTURE(text);
    CHECK_THAT(error_of(text), Catch::Matchers::StartsWith("a.json: "));
  }
}

}  // namespace
}  // namespace quire::test
