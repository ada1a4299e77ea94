// The tokenizer inside a GGUF: the bundled SentencePiece model, written as GGUF writes such models,
// gives the ids of its tokenizer.model; small BPE models give those of their tokenizer.json.

#include "engine/text/gguf_tokenizer.h"

#include <sentencepiece_processor.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/text/gguf_sentencepiece.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "engine/text/sentencepiece_types.h"
#include "models/model_config.h"
#include "models/strict_json.h"
#include "tests/engine/bpe_golden.h"
#include "tests/engine/hostile_texts.h"
#include "tests/models/gguf_builder.h"
#include "tests/models/model_folder.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;
using test::GgufBuilder;
using test::load_error_of;
using test::TemporaryFolder;

const std::filesystem::path kModelDir = QUIRE_BUNDLED_MODEL;

/// What the bundled tokenizer.model says, as lists; a test may bend it.
struct Lists {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  std::string charsmap;
};

const Lists& bundled_lists() {
  static const Lists lists = [] {
    std::ifstream file(kModelDir / "tokenizer.model", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    sentencepiece::SentencePieceProcessor processor;
    REQUIRE(processor.LoadFromSerializedProto(bytes).ok());
    Lists result;
    const std::optional<std::vector<PieceType>> types = read_piece_types(bytes);
    for (const PieceType type : *types) {
      const auto id = static_cast<int>(result.tokens.size());
      result.tokens.push_back(processor.IdToPiece(id));
      result.scores.push_back(processor.GetScore(id));
      result.types.push_back(static_cast<int32_t>(type));
    }
    // The normaliser's name, then its table: a field of bytes whose length has three digits of 7
    // bits.
    const size_t at = bytes.find("nmt_nfkc\x12") + 9;
    size_t length = 0;
    for (size_t i = 0; i < 3; ++i) {
      length |= static_cast<size_t>(bytes[at + i] & 0x7F) << (7 * i);
    }
    result.charsmap = bytes.substr(at + 3, length);
    return result;
  }();
  return lists;
}

GgufBuilder as_gguf(const Lists& lists) {
  GgufBuilder builder;
  builder.add_text("tokenizer.ggml.model", "llama")
      .add_texts("tokenizer.ggml.tokens", lists.tokens)
      .add_floats("tokenizer.ggml.scores", lists.scores)
      .add_integers("tokenizer.ggml.token_type", lists.types)
      .add_bytes("tokenizer.ggml.precompiled_charsmap", lists.charsmap)
      .add_boolean("tokenizer.ggml.remove_extra_whitespaces", true)
      .add_u32("tokenizer.ggml.bos_token_id", 1)
      .add_u32("tokenizer.ggml.eos_token_id", 6);
  return builder;
}

std::unique_ptr<Tokenizer> load(const GgufBuilder& builder) {
  const TemporaryFolder folder;
  folder.write("t.gguf", builder.bytes());
  return load_tokenizer(folder.path() / "t.gguf", 2);
}

std::string error_of(const GgufBuilder& builder) {
  return load_error_of([&] { load(builder); });
}

TEST_CASE("a GGUF's SentencePiece tokenizer gives the ids of tokenizer.model") {
  const auto from_gguf = load(as_gguf(bundled_lists()));
  const SentencePieceTokenizer expected(kModelDir / "tokenizer.model", 2);
  REQUIRE(from_gguf->vocab_size() == expected.vocab_size());
  CHECK(from_gguf->bos() == expected.bos());
  Random random(5);
  std::vector<std::string> texts = {"", " ", "a", "<|user|>", "\n\n  x\t", "ﬁ ① Å é", "漢字🙂"};
  for (int i = 0; i < 50; ++i) texts.push_back(random_mixture(random, 40));
  for (const std::string& text : texts) {
    CAPTURE(text);
    REQUIRE(from_gguf->encode(text) == expected.encode(text));
  }
  for (TokenId id = 0; id < expected.vocab_size(); ++id) {
    CAPTURE(id);
    REQUIRE(from_gguf->is_special(id) == expected.is_special(id));
    REQUIRE(from_gguf->piece_name(id) == expected.piece_name(id));
  }
  CHECK(from_gguf->special_token("<|user|>") == expected.special_token("<|user|>"));
}

TEST_CASE("a GGUF with more tokens than rows of the embedding, or less than half, is refused") {
  const std::string row(4, '\0');
  const auto with_rows = [&](int64_t num_rows) {
    std::string rows;
    for (int64_t i = 0; i < num_rows; ++i) rows += row;
    return error_of(as_gguf(bundled_lists())
                        .add_tensor("token_embd.weight", GgufType::kF32, {num_rows, 1}, rows));
  };
  CHECK(with_rows(8193).empty());
  CHECK_THAT(with_rows(8194),
             Contains("'tokenizer.ggml.tokens': 4096 tokens, but the model has 8194"));
  CHECK_THAT(
      error_of(as_gguf(bundled_lists())
                   .add_tensor("token_embd.weight", GgufType::kF32, {3, 1}, row + row + row)),
      Contains("tokens, but the model has 3"));
}

TEST_CASE("a GGUF may leave out the bos and the space in front") {
  const auto tokenizer = load(as_gguf(bundled_lists())
                                  .add_boolean("tokenizer.ggml.add_bos_token", false)
                                  .add_boolean("tokenizer.ggml.add_space_prefix", false));
  CHECK_FALSE(tokenizer->bos());
  CHECK(tokenizer->piece_name(tokenizer->encode("the").front()).front() == 't');
}

TEST_CASE("a GGUF whose tokenizer is unknown, absent or contradicts itself is refused by key") {
  CHECK_THAT(error_of(GgufBuilder()), Contains("'tokenizer.ggml.model': missing"));
  CHECK_THAT(error_of(GgufBuilder().add_text("tokenizer.ggml.model", "bert")),
             Contains("unknown tokenizer 'bert'; known: llama, gpt2"));
  CHECK_THAT(error_of(GgufBuilder().add_text("tokenizer.ggml.model", "llama")),
             Contains("'tokenizer.ggml.tokens': 0 tokens"));
  Lists lists = bundled_lists();
  lists.scores.pop_back();
  CHECK_THAT(error_of(as_gguf(lists)),
             Contains("'tokenizer.ggml.scores': 4095 entries for 4096 tokens"));
  lists = bundled_lists();
  lists.types[7] = 9;
  CHECK_THAT(error_of(as_gguf(lists)),
             Contains("'tokenizer.ggml.token_type': token 7 is of type 9"));
  lists = bundled_lists();
  lists.tokens[300] = lists.tokens[301];
  CHECK_THAT(error_of(as_gguf(lists)), Contains("t.gguf"));
  lists = bundled_lists();
  lists.types[0] = 1;  // no unknown token
  CHECK_THAT(error_of(as_gguf(lists)), Contains("t.gguf"));
}

TEST_CASE("a normaliser's table that would lead out of itself is refused") {
  const std::string& sound = bundled_lists().charsmap;
  REQUIRE(is_sound_charsmap(sound));
  for (const size_t size : {size_t{0}, size_t{3}, size_t{4}, size_t{1000}, sound.size() - 1}) {
    CAPTURE(size);
    CHECK_FALSE(is_sound_charsmap(sound.substr(0, size)));
  }
  const auto with_unit = [&](size_t index, uint32_t unit) {
    std::string bent = sound;
    for (size_t i = 0; i < 4; ++i) bent[4 + 4 * index + i] = static_cast<char>(unit >> (8 * i));
    return is_sound_charsmap(bent);
  };
  CHECK_FALSE(with_unit(0, 0x7FFFFC00u));           // children behind the trie
  CHECK_FALSE(with_unit(5, 0xFFFFFFFFu));           // a text behind the texts
  CHECK_FALSE(with_unit(9, (100000u << 10) | 97));  // likewise, of a unit that is followed
  Lists lists = bundled_lists();
  lists.charsmap[7] = '\x7F';
  CHECK_THAT(error_of(as_gguf(lists)),
             Contains("'tokenizer.ggml.precompiled_charsmap': 240007 bytes that are no sound"));
}

using Json = nlohmann::json;

/// A tokenizer.json of models/tools/make_bpe_golden.py, whose ids other tests compare with those of
/// Hugging Face's library.
Json golden_tokenizer(const std::string& name) {
  std::ifstream file(QUIRE_SOURCE_DIR "/tests/engine/data/bpe_golden.json");
  const Json golden = Json::parse(file);
  for (const auto& entry : golden.at("cases")) {
    if (entry.at("name") == name) return entry.at("tokenizer");
  }
  throw std::runtime_error("no golden tokenizer " + name);
}

/// The same tokenizer as GGUF lists it. Ids that nothing stands for are unused.
GgufBuilder as_gguf(const Json& json, std::string_view pre) {
  constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
  std::map<int32_t, std::pair<std::string, int32_t>> by_id;
  for (const auto& [name, id] : json.at("model").at("vocab").items()) {
    by_id[id.get<int32_t>()] = {name, kNormal};
  }
  for (const auto& token : json.at("added_tokens")) {
    by_id[token.at("id").get<int32_t>()] = {token.at("content").get<std::string>(),
                                            token.at("special") ? kControl : kUserDefined};
  }
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  for (int32_t id = 0; id <= by_id.rbegin()->first + 1; ++id) {
    const auto found = by_id.find(id);
    tokens.push_back(found == by_id.end() ? "[PAD" + std::to_string(id) + "]"
                                          : found->second.first);
    types.push_back(found == by_id.end() ? kUnused : found->second.second);
  }
  for (const auto& merge : json.at("model").at("merges")) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  GgufBuilder builder;
  builder.add_text("tokenizer.ggml.model", "gpt2")
      .add_text("tokenizer.ggml.pre", pre)
      .add_texts("tokenizer.ggml.tokens", tokens)
      .add_integers("tokenizer.ggml.token_type", types)
      .add_texts("tokenizer.ggml.merges", merges)
      .add_u32("tokenizer.ggml.bos_token_id", 0);
  return builder;
}

std::unique_ptr<Tokenizer> load(const Json& json) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", json.dump());
  return load_tokenizer(folder.path(), 1);
}

void check_same_ids(const Tokenizer& actual, const Tokenizer& expected) {
  Random random(9);
  std::vector<std::string> texts = {"",
                                    " ",
                                    "I'll don't WE'VE",
                                    "x1234567 89",
                                    "a  b\n\n c\r\n\t",
                                    "3+4=7, $5 <x>|y|",
                                    "Å Å é ﬁ",
                                    "<|user|> <tool_call> <think>",
                                    "漢字 🙂٣٤"};
  for (int i = 0; i < 60; ++i) texts.push_back(random_mixture(random, 30));
  for (const std::string& text : texts) {
    CAPTURE(text);
    REQUIRE(actual.encode(text) == expected.encode(text));
    REQUIRE(actual.decode(actual.encode(text), true) ==
            expected.decode(expected.encode(text), true));
  }
}

TEST_CASE("a GGUF's BPE tokenizer gives the ids of the tokenizer.json of such models") {
  const auto [golden, pre, has_bos] =
      GENERATE(table<std::string, std::string, bool>({{"llama3", "llama-bpe", true},
                                                      {"llama3", "llama3", true},
                                                      {"llama3", "llama-v3", true},
                                                      {"llama3", "falcon3", true},
                                                      {"llama3", "pixtral", true},
                                                      {"llama3", "midm-2.0", true},
                                                      {"llama3", "smaug-bpe", false},
                                                      {"llama3", "dbrx", false},
                                                      {"tekken", "tekken", true},
                                                      {"qwen2", "qwen2", false},
                                                      {"gpt2", "gpt-2", false},
                                                      {"gpt2", "mellum", false},
                                                      {"gpt2", "trillion", false},
                                                      {"gpt2", "a.x-4.0", false},
                                                      {"gpt2", "granite-docling", false},
                                                      {"smollm2", "smollm", false},
                                                      {"smollm2", "refact", false},
                                                      {"smollm2", "starcoder", false},
                                                      {"smollm2", "minerva-7b", false}}));
  CAPTURE(golden, pre);
  const Json json = golden_tokenizer(golden);
  const auto expected = load(json);
  const auto from_gguf = load(as_gguf(json, pre));
  check_same_ids(*from_gguf, *expected);
  CHECK(from_gguf->bos().has_value() == has_bos);
  CHECK(from_gguf->special_token("<|end|>") == expected->special_token("<|end|>"));
  CHECK_FALSE(from_gguf->special_token("<think>"));
  const auto reserving =
      load(as_gguf(json, pre).add_text("tokenizer.chat_template", "<|user|><think>"));
  const auto think = expected->encode("<think>");
  CHECK((think.size() == 1) == (golden == "qwen2"));
  if (think.size() == 1) CHECK(reserving->encode("<think>") != think);
  const auto silent = load(as_gguf(json, pre).add_boolean("tokenizer.ggml.add_bos_token", false));
  CHECK_FALSE(silent->bos());
}

TEST_CASE("a GGUF of a relative of Qwen2 has its pieces, and text that nobody composes") {
  const std::string pre = GENERATE("deepseek-r1-qwen", "megrez");
  Json json = golden_tokenizer("qwen2");
  const auto from_gguf = load(as_gguf(json, pre));
  json["normalizer"] = nullptr;
  check_same_ids(*from_gguf, *load(json));
}

TEST_CASE("a GGUF that cuts text in a way of its own gives the reference library's ids") {
  // Written by models/tools/make_gguf_bpe_golden.py; the texts are make_bpe_golden.py's.
  const auto read = [](const char* name) {
    return Json::parse(
        read_text_file(std::string(QUIRE_SOURCE_DIR "/tests/engine/data/") + name, 16 << 20));
  };
  const Json texts = read("bpe_golden.json").at("texts");
  for (const Json& entry : read("gguf_bpe_golden.json")) {
    const std::string pre = entry.at("pre");
    const auto tokenizer = load(as_gguf(entry.at("tokenizer"), pre));
    CHECK_FALSE(tokenizer->bos());
    for (size_t i = 0; i < entry.at("ids").size(); ++i) {
      const std::string text = text_of(texts.at(i));
      CAPTURE(pre, i, text.substr(0, 300));
      check_ids(tokenizer->encode(text), entry.at("ids")[i]);
    }
  }
}

TEST_CASE("a GGUF's piece that is a token needs no merges, where the models do without") {
  Json json = golden_tokenizer("llama3");
  const TokenId word = json.at("model").at("vocab").at("in");
  json["model"]["merges"] = Json::array();
  const auto ids_of_in = [&](const char* pre) { return load(as_gguf(json, pre))->encode("in"); };
  for (const char* pre : {"llama-bpe", "tekken", "minicpm5"}) {
    CAPTURE(pre);
    CHECK(ids_of_in(pre) == Ids{word});
  }
  for (const char* pre : {"smaug-bpe", "qwen2", "gpt-2", "smollm", "deepseek-llm"}) {
    CAPTURE(pre);
    CHECK(ids_of_in(pre).size() == 2);
  }
}

TEST_CASE("the tokenizer.json of such models gives the same ids as their GGUF") {
  const Json texts =
      Json::parse(read_text_file(QUIRE_SOURCE_DIR "/tests/engine/data/bpe_golden.json", 16 << 20))
          .at("texts");
  const Json cases = Json::parse(
      read_text_file(QUIRE_SOURCE_DIR "/tests/engine/data/gguf_bpe_golden.json", 16 << 20));
  const Json& entry = cases.at(0);
  REQUIRE(entry.at("pre") == "deepseek-llm");
  const auto tokenizer = load(entry.at("tokenizer"));
  for (size_t i = 0; i < entry.at("ids").size(); ++i) {
    const std::string text = text_of(texts.at(i));
    CAPTURE(i, text.substr(0, 300));
    check_ids(tokenizer->encode(text), entry.at("ids")[i]);
  }
}

TEST_CASE("deepseek-llm: a long run of white space takes no longer than a short one, per byte") {
  // Before a digit, which is no end: a search that began anew at every space would take hours.
  const auto tokenizer = load(as_gguf(golden_tokenizer("gpt2"), "deepseek-llm"));
  const std::string text = std::string(2'000'000, ' ') + "5";
  CHECK(tokenizer->decode(tokenizer->encode(text), true) == text);
}

TEST_CASE("a GGUF's default pre-tokenizer cuts by its four patterns, one after the other") {
  Json json = golden_tokenizer("gpt2");
  Json steps = Json::array();
  for (const char* pattern :
       {R"([\p{P}\$\+<=>\^~\|]+)",
        R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))", R"(\p{N}+)",
        R"([0-9][0-9][0-9])"}) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(json.at("pre_tokenizer"));
  steps.back()["use_regex"] = false;
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  check_same_ids(*load(as_gguf(golden_tokenizer("gpt2"), "default")), *load(json));
}

TEST_CASE("a GGUF's BPE lists that contradict each other are refused by key") {
  const Json json = golden_tokenizer("gpt2");
  CHECK_THAT(error_of(as_gguf(json, "gpt-4o")),
             Contains("'tokenizer.ggml.pre': unknown pre-tokenizer 'gpt-4o'; known: llama-bpe, "));
  const auto with = [](const std::vector<std::string>& tokens, const std::vector<int32_t>& types,
                       const std::vector<std::string>& merges) {
    GgufBuilder builder;
    builder.add_text("tokenizer.ggml.model", "gpt2")
        .add_texts("tokenizer.ggml.tokens", tokens)
        .add_integers("tokenizer.ggml.token_type", types)
        .add_texts("tokenizer.ggml.merges", merges);
    return error_of(builder);
  };
  CHECK_THAT(with({}, {}, {}), Contains("'tokenizer.ggml.tokens': 0 tokens"));
  CHECK_THAT(with({"a"}, {}, {}), Contains("'tokenizer.ggml.token_type': 0 entries for 1 tokens"));
  CHECK_THAT(with({"a"}, {7}, {}), Contains("token 0 is of type 7"));
  CHECK_THAT(with({"a", "a"}, {1, 1}, {}), Contains("token 1 stands twice"));
  CHECK_THAT(with({"a", ""}, {1, 1}, {}), Contains("token 1 is no text"));
  CHECK_THAT(with({"a", "\xff"}, {1, 1}, {}), Contains("token 1 is no text"));
  CHECK_THAT(with({"a"}, {1}, {"aa"}), Contains("'tokenizer.ggml.merges': entry 0 is no pair"));
  CHECK_THAT(with({"a"}, {1}, {"\xff a"}), Contains("entry 0 is no pair"));
  CHECK_THAT(with({"a"}, {1}, {"a b"}), Contains("t.gguf"));
}

}  // namespace
}  // namespace quire
