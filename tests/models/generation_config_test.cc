#include "models/generation_config.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::StartsWith;

SamplingDefaults parse(const std::string& text) {
  return parse_sampling_defaults(text, "generation_config.json");
}

std::string error_of(const std::string& text) {
  return load_error_of([&] { parse(text); });
}

TEST_CASE("a file like those that models come with is read") {
  const SamplingDefaults sampling = parse(R"({
    "bos_token_id": 151643, "pad_token_id": 151643, "do_sample": true,
    "eos_token_id": [151645, 151643], "repetition_penalty": 1.05, "temperature": 0.7,
    "top_p": 0.8, "top_k": 20, "min_p": 0.05, "max_new_tokens": 2048,
    "transformers_version": "4.37.0"})");
  CHECK(sampling.is_from_file);
  CHECK(sampling.temperature == 0.7);
  CHECK(sampling.top_p == 0.8);
  CHECK(sampling.top_k == 20);
  CHECK(sampling.min_p == 0.05);
  CHECK(sampling.repetition_penalty == 1.05);
  CHECK(sampling.max_new_tokens == 2048);
  CHECK(sampling.unused_keys.empty());
  CHECK(sampling_text(sampling) ==
        "temperature 0.7, top_p 0.8, top_k 20, min_p 0.05, repetition_penalty 1.05, "
        "max_tokens 2048");
}

TEST_CASE("what a file does not say, or says with null, stays the API's default") {
  for (const std::string text :
       {"{}", R"({"_from_model_config": true, "eos_token_id": 2})",
        R"({"temperature": null, "top_p": null, "min_p": null, "top_k": null,
            "repetition_penalty": null, "max_new_tokens": null, "do_sample": null})"}) {
    CAPTURE(text);
    CHECK(sampling_text(parse(text)) == "temperature 1, top_p 1");
    CHECK_FALSE(parse(text).max_new_tokens);
  }
}

TEST_CASE("a model that does not want to be sampled is greedy whatever its temperature") {
  CHECK(parse(R"({"do_sample": false})").temperature == 0.0);
  CHECK(parse(R"({"do_sample": false, "temperature": 0.6, "top_p": 0.9})").temperature == 0.0);
  CHECK(parse(R"({"do_sample": false, "top_p": 0.9})").top_p == 0.9);
  CHECK(parse(R"({"do_sample": true, "temperature": 0.6})").temperature == 0.6);
}

TEST_CASE("another type and a number that no request may have are refused with file and key") {
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"temperature", {"-0.1", "2.01", "1e999", "\"0.6\"", "true", "[0.6]", "{}"}},
      {"top_p", {"0", "0.0", "-0.5", "1.01", "\"1\""}},
      {"min_p", {"-0.1", "1.5", "false"}},
      {"top_k", {"-2", "1073741825", "20.5", "\"20\"", "18446744073709551615"}},
      {"repetition_penalty", {"0", "1e-60", "-1", "10.5", "\"none\""}},
      {"max_new_tokens", {"0", "-1", "1073741825", "256.0", "\"256\""}},
      {"do_sample", {"0", "1", "\"false\""}}};
  for (const auto& [key, values] : bad) {
    for (const std::string& value : values) {
      CAPTURE(key, value);
      const std::string error = error_of("{\"" + key + "\": " + value + "}");
      const bool is_number = value != "1e999";  // which JSON has, and a double has not
      CHECK_THAT(error,
                 StartsWith("generation_config.json: " + (is_number ? "'" + key + "': " : "")));
    }
  }
  CHECK_THAT(error_of("[]"), StartsWith("generation_config.json: expected a JSON object"));
  CHECK_THAT(error_of("{"), StartsWith("generation_config.json: "));
  CHECK_THAT(error_of(R"({"top_k": 1, "top_k": 2})"), StartsWith("generation_config.json: key"));
}

TEST_CASE("the limits of each number are let in") {
  CHECK(error_of(R"({"temperature": 0, "top_p": 1e-9, "min_p": 0, "top_k": -1,
                     "repetition_penalty": 1e-9, "max_new_tokens": 1})")
            .empty());
  CHECK(error_of(R"({"temperature": 2, "top_p": 1, "min_p": 1, "top_k": 1073741824,
                     "repetition_penalty": 10, "max_new_tokens": 1073741824})")
            .empty());
  CHECK(sampling_text(parse(R"({"top_k": -1})")) == sampling_text({}));
}

TEST_CASE("keys that would change what is drawn are told, unless they change nothing") {
  CHECK(parse(R"({"num_beams": 4, "temperature": 0.5, "no_repeat_ngram_size": 3,
                  "suppress_tokens": [7], "forced_bos_token_id": 0})")
            .unused_keys == std::vector<std::string>{"num_beams", "no_repeat_ngram_size",
                                                     "forced_bos_token_id", "suppress_tokens"});
  CHECK(parse(R"({"num_beams": 1, "no_repeat_ngram_size": 0, "typical_p": 1.0,
                  "suppress_tokens": [], "bad_words_ids": null, "guidance_scale": 1,
                  "forced_eos_token_id": null, "max_length": 4096, "use_cache": true})")
            .unused_keys.empty());
}

TEST_CASE("a folder without the file has the API's defaults, one with it has its own") {
  const TemporaryFolder folder;
  folder.write("config.json", tiny_config());
  CHECK_FALSE(load_sampling_defaults(folder.path()).is_from_file);
  CHECK(sampling_text(load_sampling_defaults(folder.path())) == "temperature 1, top_p 1");
  folder.write("generation_config.json", R"({"temperature": 0.6})");
  CHECK(load_sampling_defaults(folder.path()).temperature == 0.6);
  folder.write("generation_config.json", R"({"temperature": 6})");
  const std::string error = load_error_of([&] { load_sampling_defaults(folder.path()); });
  CHECK(error == (folder.path() / "generation_config.json").string() +
                     ": 'temperature': expected a number in [0, 2], got 6");
  // The architecture can be read all the same.
  CHECK(load_model_config(folder.path()).vocab_size == kTinyVocab);
}

TEST_CASE("the bundled model leaves sampling to the API's defaults") {
  CHECK_FALSE(load_sampling_defaults(QUIRE_BUNDLED_MODEL).is_from_file);
}

}  // namespace
}  // namespace quire::test
