// Templates in the style of each family, and of each construct, against what jinja2 makes of them
// (make_golden.py).

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/text/jinja/template.h"
#include "tests/engine/jinja/variables.h"

namespace quire::jinja {
namespace {

using Json = nlohmann::ordered_json;

Json golden_cases() {
  std::ifstream stream(std::string(QUIRE_SOURCE_DIR) + "/tests/engine/jinja/golden.json");
  return Json::parse(stream);
}

/// 9 July 2025, 14:05:33, a Wednesday: what make_golden.py has.
std::tm golden_time() {
  std::tm now = {};
  now.tm_year = 125;
  now.tm_mon = 6;
  now.tm_mday = 9;
  now.tm_hour = 14;
  now.tm_min = 5;
  now.tm_sec = 33;
  now.tm_wday = 3;
  now.tm_yday = 189;
  return now;
}

}  // namespace

TEST_CASE("Templates print what jinja2 prints, and refuse what it refuses") {
  for (const Json& golden : golden_cases()) {
    const auto name = golden["name"].get<std::string>();
    CAPTURE(name);
    const auto source = golden["template"].get<std::string>();
    std::string text, refusal;
    try {
      text = Template(source)
                 .render({.variables = variables_of(golden["values"], Origin::kRequest),
                          .now = golden_time()})
                 .bytes();
    } catch (const Error& error) {
      refusal = error.what();
    }
    if (golden.contains("text")) {
      CHECK(refusal == "");
      CHECK(text == golden["text"].get<std::string>());
    } else {
      CHECK(refusal != "");
    }
  }
}

}  // namespace quire::jinja
