// RoPE scaling against Hugging Face transformers, which models/tools/make_hf_rope_golden.py has
// asked: from the texts of config.json files, old and new, to the frequencies.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/model_config.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

// transformers raises theta to powers in float32: exponents up to 1 are off by 6e-8 at most, which
// ln(1e6) = 14 multiplies; pow, quotients and the blends of yarn and llama3 add a few roundings.
constexpr double kRelativeError = 2e-6;

struct RopeCase {
  std::string name;
  std::string config;
  int32_t max_model_len = 0;
  std::vector<double> inv_freq;
  double attention_factor = 0;
};

std::vector<RopeCase> load_cases() {
  std::ifstream file(std::string(QUIRE_SOURCE_DIR) + "/tests/models/hf_rope.json");
  const nlohmann::json root = nlohmann::json::parse(file);
  std::vector<RopeCase> cases;
  for (const auto& entry : root.at("cases")) {
    cases.push_back({entry.at("name"), entry.at("config").dump(), entry.at("max_model_len"),
                     entry.at("inv_freq"), entry.at("attention_factor")});
  }
  return cases;
}

TEST_CASE("rope scaling gives the frequencies of Hugging Face transformers") {
  const auto expected = GENERATE(from_range(load_cases()));
  CAPTURE(expected.name, expected.max_model_len);
  const ModelConfig config = parse_model_config(expected.config, "config.json");
  const RopeFrequencies actual = rope_frequencies(config, expected.max_model_len);
  CHECK(actual.attention_factor == Approx(expected.attention_factor).epsilon(1e-12));
  // transformers was asked for a sequence of max_model_len tokens.
  const std::vector<double>& inv_freq = actual.of(expected.max_model_len);
  REQUIRE(inv_freq.size() == expected.inv_freq.size());
  for (size_t i = 0; i < expected.inv_freq.size(); ++i) {
    CAPTURE(i);
    CHECK(inv_freq[i] == Approx(expected.inv_freq[i]).epsilon(kRelativeError));
  }
}

TEST_CASE("longrope: the length of a sequence decides, and the server's longest whether it can") {
  const ModelConfig config =
      parse_model_config(tiny_config(R"(, "original_max_position_embeddings": 100, "rope_scaling":
                       {"type": "longrope", "short_factor": [1, 1, 1, 1],
                        "long_factor": [2, 4, 8, 16]})"),
                         "config.json");
  const RopeFrequencies both = rope_frequencies(config, 101);
  CHECK(both.switch_len == 100);
  CHECK(&both.of(100) == &both.inv_freq);
  CHECK(&both.of(101) == &both.long_inv_freq);
  REQUIRE(both.long_inv_freq.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(both.inv_freq[i] / both.long_inv_freq[i] == Approx(std::exp2(i + 1)));
  }
  const RopeFrequencies short_only = rope_frequencies(config, 100);
  CHECK(short_only.switch_len == 0);
  CHECK(short_only.long_inv_freq.empty());
  CHECK(short_only.inv_freq == both.inv_freq);
}

TEST_CASE("the frequencies that transformers was asked for tell the kinds of scaling apart") {
  // Of one head size, so that any two lists can be compared.
  std::vector<std::vector<double>> seen;
  for (const RopeCase& one : load_cases()) {
    if (one.inv_freq.size() == 16) seen.push_back(one.inv_freq);
  }
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  CHECK(seen.size() >= 14);
}

std::string error_of_rope(const std::string& object, const std::string& key = "rope_scaling") {
  return load_error_of(
      [&] { parse_model_config(tiny_config(", \"" + key + "\": " + object), "config.json"); });
}

TEST_CASE("rope scaling that is not known, or whose formula has no value, is refused by name") {
  CHECK_THAT(error_of_rope(R"({"rope_type": "proportional", "factor": 2.0})"),
             Contains("'rope_scaling.rope_type': RoPE scaling 'proportional' is not supported"));
  CHECK_THAT(error_of_rope(R"({"type": "su"})"), Contains("'rope_scaling.type'"));
  CHECK_THAT(error_of_rope(R"({"type": "mrope", "mrope_section": [2, 1, 1]})"),
             Contains("'rope_scaling.mrope_section': unknown key"));
  CHECK_THAT(error_of_rope(R"({"full_attention": {"rope_type": "default"}})", "rope_parameters"),
             Contains("'rope_parameters.full_attention': unknown key"));
  CHECK_THAT(error_of_rope(R"({"type": "linear"})"), Contains("missing key 'rope_scaling.factor'"));
  CHECK_THAT(error_of_rope(R"({"type": "linear", "factor": 0.5})"),
             Contains("'rope_scaling.factor': expected a number in [1, 1e+06], got 0.5"));
  CHECK_THAT(error_of_rope(R"({"type": "dynamic", "factor": "2"})"),
             Contains("'rope_scaling.factor'"));
  CHECK_THAT(error_of_rope("[2.0]"), Contains("'rope_scaling': expected a JSON object"));
  CHECK_THAT(error_of_rope(R"({"type": "yarn", "factor": 2.0, "rope_theta": 1.0})"),
             Contains("'rope_scaling.rope_theta'"));
  CHECK_THAT(error_of_rope(R"({"type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                               "high_freq_factor": 4.0})"),
             Contains("'rope_scaling.high_freq_factor'"));
  CHECK_THAT(error_of_rope(R"({"type": "longrope", "long_factor": [1, 1, 1, 1],
                               "short_factor": [1, 1, 1]})"),
             Contains("'rope_scaling.short_factor': expected 4 numbers, got 3"));
  CHECK_THAT(error_of_rope(R"({"type": "longrope", "short_factor": [1, 1, 1, 0],
                               "long_factor": [1, 1, 1, 1]})"),
             Contains("'rope_scaling.short_factor'"));
  CHECK_THAT(error_of_rope(R"({"rope_type": "default", "partial_rotary_factor": 0.5})"),
             Contains("'rope_scaling.partial_rotary_factor': not supported"));
}

TEST_CASE("the older field wins over the newer one, as in transformers") {
  const ModelConfig config =
      parse_model_config(tiny_config(R"(, "rope_scaling": {"type": "linear", "factor": 2.0},
                       "rope_parameters": {"rope_type": "linear", "factor": 4.0})"),
                         "config.json");
  CHECK(config.rope.factor == 2.0);
  CHECK(parse_model_config(tiny_config(R"(, "rope_scaling": null, "rope_parameters":
                                            {"rope_type": "linear", "factor": 4.0})"),
                           "config.json")
            .rope.factor == 4.0);
}

}  // namespace
}  // namespace quire::test
