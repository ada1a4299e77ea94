#include "engine/text/bpe/bpe_tokenizer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/text/bpe/tokenizer_json.h"
#include "engine/text/incremental_decoder.h"
#include "engine/text/utf8.h"
#include "models/strict_json.h"
#include "tests/engine/bpe_golden.h"
#include "tests/engine/hostile_texts.h"

namespace quire {
namespace {

using Json = nlohmann::json;

/// Written by models/tools/make_bpe_golden.py.
const Json& golden() {
  static const Json file =
      Json::parse(read_text_file(QUIRE_SOURCE_DIR "/tests/engine/data/bpe_golden.json", 16 << 20));
  return file;
}

const Json& family(const std::string& name) {
  for (const Json& entry : golden().at("cases")) {
    if (entry.at("name") == name) return entry.at("tokenizer");
  }
  throw std::runtime_error("no golden tokenizer " + name);
}

BpeTokenizer make_tokenizer(const std::string& json) {
  return {read_tokenizer_json(json, "tokenizer.json"), "tokenizer.json"};
}
BpeTokenizer make_tokenizer(const Json& json) { return make_tokenizer(json.dump()); }

std::string read_piecewise(const BpeTokenizer& tokenizer, const Ids& ids) {
  IncrementalDecoder decoder(tokenizer, IncrementalDecoder::SpecialTokens::kSkip,
                             IncrementalDecoder::FirstSpace::kDrop);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  return text + decoder.flush();
}

/// The message with which the file is refused; empty if it is not.
std::string refusal(const Json& json) {
  try {
    make_tokenizer(json);
  } catch (const LoadError& error) {
    return error.what();
  }
  return "";
}

Json changed(const std::string& name, const std::string& pointer, const Json& value) {
  Json json = family(name);
  json[Json::json_pointer(pointer)] = value;
  return json;
}

}  // namespace

TEST_CASE("tokenizer.json: ids of hard texts are the reference library's, for every family") {
  const Json& texts = golden().at("texts");
  for (const Json& entry : golden().at("cases")) {
    const BpeTokenizer tokenizer = make_tokenizer(entry.at("tokenizer"));
    CAPTURE(entry.at("name").get<std::string>());
    const Ids bos = ids_of(entry.at("bos"));
    CHECK(Ids(tokenizer.bos() ? Ids{*tokenizer.bos()} : Ids{}) == bos);
    const Json& ids = entry.at("ids");  // the longest texts stand last, and not for every family
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::string text = text_of(texts.at(i));
      CAPTURE(i, text.substr(0, 300));
      check_ids(tokenizer.encode(text), ids[i]);
      // Once more, out of the memory of words.
      if (text.size() < 1'000'000) check_ids(tokenizer.encode(text), ids[i]);
    }
  }
}

TEST_CASE(
    "tokenizer.json: characters that are newer than PCRE2 are cut as the reference library does") {
  // Written by models/tools/make_newer_characters_golden.py.
  const Json newer = Json::parse(
      read_text_file(QUIRE_SOURCE_DIR "/tests/engine/data/newer_characters_golden.json", 1 << 20));
  for (const Json& entry : newer.at("cases")) {
    const BpeTokenizer tokenizer = make_tokenizer(family(entry.at("name")));
    CAPTURE(entry.at("name").get<std::string>());
    for (size_t i = 0; i < entry.at("ids").size(); ++i) {
      const std::string text = text_of(newer.at("texts").at(i));
      CAPTURE(i, text.substr(0, 100));
      check_ids(tokenizer.encode(text), entry.at("ids").at(i));
    }
  }
}

TEST_CASE(
    "tokenizer.json: white space up to a line's end is cut off where the reference library does") {
  const SplitPattern pattern(R"(\s+$)", SplitPattern::Kind::kRegex, "pattern");
  // What the library's Split makes of each text.
  const std::vector<std::pair<std::string, std::vector<std::string>>> golden = {
      {" \n x", {" ", "\n x"}}, {"\n \nx", {"\n ", "\nx"}},   {"\n\nx", {"\n", "\nx"}},
      {"x  \n", {"x", "  \n"}}, {"\nx \n", {"\nx", " \n"}},   {" x\n x", {" x\n x"}},
      {" \n", {" \n"}},         {"\n\n  x", {"\n", "\n  x"}},
  };
  for (const auto& [text, expected] : golden) {
    CAPTURE(text);
    std::vector<std::string> pieces;
    size_t from = 0;
    while (const auto match = pattern.find(text, from)) {
      if (match->begin > from) pieces.push_back(text.substr(from, match->begin - from));
      pieces.push_back(text.substr(match->begin, match->end - match->begin));
      from = match->end;
    }
    if (from < text.size()) pieces.push_back(text.substr(from));
    CHECK(pieces == expected);
  }
}

TEST_CASE("tokenizer.json: byte-level text reads back exactly, token by token and at once") {
  Random random(11);
  for (const char* name : {"llama3", "gpt2", "smollm2", "tekken"}) {
    const BpeTokenizer tokenizer = make_tokenizer(family(name));
    for (int round = 0; round < 100; ++round) {
      const std::string text =
          round % 2 == 0 ? random_characters(random, 60) : random_mixture(random, 200);
      const Ids ids = tokenizer.encode(text);
      CAPTURE(name, text);
      CHECK(tokenizer.decode(ids, true) == replace_invalid_utf8(text));
      CHECK(read_piecewise(tokenizer, ids) == replace_invalid_utf8(text));
    }
  }
}

TEST_CASE("tokenizer.json: an answer loses its first space where encoding added one, only there") {
  const BpeTokenizer bytes = make_tokenizer(family("llama3"));
  CHECK(bytes.decode(bytes.encode(" a b"), true) == " a b");
  const BpeTokenizer marked = make_tokenizer(family("llama2"));
  CHECK(marked.decode(marked.encode("a b"), true) == "a b");
  CHECK(marked.decode(marked.encode("\u65E5\U0001F600 x"), true) == "\u65E5\U0001F600 x");
}

TEST_CASE("tokenizer.json: text never becomes a special token") {
  for (const char* name : {"llama3", "qwen2", "gpt2"}) {
    const BpeTokenizer tokenizer = make_tokenizer(family(name));
    for (const std::string text : {"<|user|>", "a<|end|> b", "<|begin|><|begin|>"}) {
      const Ids ids = tokenizer.encode(text);
      CAPTURE(name, text);
      CHECK(std::none_of(ids.begin(), ids.end(),
                         [&](TokenId id) { return tokenizer.is_special(id); }));
      CHECK(tokenizer.decode(ids, true) == text);
    }
    const auto user = tokenizer.special_token("<|user|>");
    REQUIRE(user.has_value());
    CHECK(tokenizer.is_special(*user));
    CHECK(tokenizer.decode({*user}, true).empty());
    CHECK(tokenizer.decode({*user}, false) == "<|user|>");
  }
  // Not even where it is one word that the model's list of merges is not asked for.
  Json json = family("llama3");
  const TokenId word = json.at("model").at("vocab").at("in");
  json["added_tokens"].push_back({{"id", word}, {"content", "in"}, {"special", true}});
  json["model"]["merges"] = Json::array();
  const Ids ids = make_tokenizer(json).encode("in");
  CHECK(ids.size() == 2);
}

TEST_CASE("tokenizer.json: work grows with the text's length, whatever the text") {
  const auto units = {"e",      "the",    "ab", " ",   "\n",     "1",
                      "\u0301", "\u65E5", "'",  "a b", "\u2581", "xq"};
  for (const char* name : {"llama3", "qwen2", "gpt2", "tekken", "llama2", "metaspace first"}) {
    const BpeTokenizer tokenizer = make_tokenizer(family(name));
    for (const std::string unit : units) {
      std::string text;
      while (text.size() < 300'000) text += unit;
      BpeTokenizer::Work work;
      const Ids ids = tokenizer.encode_counting(text, work);
      CAPTURE(name, unit);
      CHECK(ids == tokenizer.encode(text));
      // A "\u2581" is three bytes where a space was one.
      const size_t num_symbols = 3 * text.size() + 3;
      CHECK(work.num_pieces <= num_symbols);
      CHECK(work.num_queued <= 3 * num_symbols);
    }
  }
}

TEST_CASE("tokenizer.json: a million accents") {
  const BpeTokenizer bytes = make_tokenizer(family("qwen2"));
  std::string accents = "a";
  for (int i = 0; i < 500'000; ++i) accents += "\u0301";
  for (int i = 0; i < 500'000; ++i) accents += "\u0323";
  CHECK(bytes.decode(bytes.encode(accents), true).starts_with("\u1EA1\u0323\u0323"));
}

TEST_CASE("tokenizer.json: merges may be written as text or as pairs") {
  const Json pairs = family("gpt2");
  Json lines = pairs;
  for (Json& merge : lines["model"]["merges"]) {
    if (merge.is_array()) merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const std::string text = "The house on the hill, it's empty 1234.";
  CHECK(make_tokenizer(lines).encode(text) == make_tokenizer(pairs).encode(text));
}

TEST_CASE("tokenizer.json: what is not supported is refused by its name") {
  using Catch::Matchers::Contains;
  const auto split = [](const char* regex) {
    return Json{{"type", "Split"},
                {"pattern", {{"Regex", regex}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  };
  CHECK_THAT(refusal(changed("gpt2", "/model/type", "Unigram")), Contains("Unigram"));
  CHECK_THAT(refusal(changed("gpt2", "/model/dropout", 0.5)), Contains("dropout"));
  CHECK_THAT(refusal(changed("gpt2", "/model/end_of_word_suffix", "</w>")),
             Contains("end_of_word_suffix"));
  CHECK_THAT(refusal(changed("gpt2", "/model/continuing_subword_prefix", "##")),
             Contains("continuing_subword_prefix"));
  CHECK_THAT(refusal(changed("gpt2", "/model/cache", 1)), Contains("cache"));
  CHECK_THAT(refusal(changed("gpt2", "/normalizer", {{"type", "BertNormalizer"}})),
             Contains("BertNormalizer"));
  CHECK_THAT(refusal(changed("gpt2", "/pre_tokenizer", {{"type", "Whitespace"}})),
             Contains("Whitespace"));
  CHECK_THAT(refusal(changed("gpt2", "/decoder", {{"type", "WordPiece"}})), Contains("WordPiece"));
  CHECK_THAT(refusal(changed("gpt2", "/post_processor", {{"type", "BertProcessing"}})),
             Contains("BertProcessing"));
  for (const char* regex : {"\\w+", "a\\b", "^a", "a$", ".", "a{2}+", "[[a]]", "(?m)a", "[a&&b]"}) {
    CAPTURE(regex);
    CHECK_THAT(refusal(changed("gpt2", "/pre_tokenizer", split(regex))), Contains("not supported"));
  }
  CHECK_THAT(refusal(changed("gpt2", "/pre_tokenizer", split("a*"))), Contains("empty"));
  CHECK_THAT(refusal(changed("gpt2", "/pre_tokenizer", split("(a"))), Contains("pattern"));
}

TEST_CASE("tokenizer.json: damaged files are refused with a reason, never read past") {
  using Catch::Matchers::Contains;
  CHECK_THAT(refusal(changed("gpt2", "/model/merges", {"one two three"})), Contains("no pair"));
  CHECK_THAT(refusal(changed("gpt2", "/model/merges", {"zz qq"})), Contains("merge 0"));
  CHECK_THAT(refusal(changed("gpt2", "/model/vocab/a", -1)), Contains("no token id"));
  CHECK_THAT(refusal(changed("gpt2", "/model/vocab/a", 4'000'000'000u)), Contains("no token id"));
  CHECK_THAT(refusal(changed("gpt2", "/added_tokens/0/id", 17)), Contains("another id"));
  Json lacks_byte = family("gpt2");
  lacks_byte["model"]["vocab"].erase("a");
  lacks_byte["model"]["merges"] = Json::array();
  CHECK_THAT(refusal(lacks_byte), Contains("lacks byte 97"));
  const std::string text = family("llama3").dump();
  for (size_t size = 0; size < text.size(); size += 397) {
    CHECK_THROWS_AS(make_tokenizer(text.substr(0, size)), LoadError);
  }
}

}  // namespace quire
