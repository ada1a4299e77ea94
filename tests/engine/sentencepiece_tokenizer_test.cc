#include "engine/text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/text/sentencepiece_types.h"
#include "engine/text/utf8.h"
#include "models/model_config.h"
#include "tests/engine/hostile_texts.h"
#include "tests/engine/sentencepiece_test_model.h"

namespace quire {
namespace {

using Ids = std::vector<TokenId>;

const std::filesystem::path kModelDir = QUIRE_BUNDLED_MODEL;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

const std::string& bundled_model() {
  static const std::string bytes = read_file(kModelDir / "tokenizer.model");
  return bytes;
}

/// A tokenizer.model that lives as long as this.
class ModelFile {
 public:
  explicit ModelFile(const std::string& bytes)
      : path_(std::filesystem::temp_directory_path() /
              ("quire_tokenizer_" + std::to_string(getpid()) + "_" +
               std::to_string(reinterpret_cast<uintptr_t>(this)))) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;
  ~ModelFile() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

SentencePieceTokenizer make_tokenizer(const std::string& model, int num_threads = 1) {
  return {ModelFile(model).path(), num_threads};
}

SentencePieceTokenizer bundled_tokenizer(int num_threads = 1) {
  return {kModelDir / "tokenizer.model", num_threads};
}

/// The oracle: ONE call of libsentencepiece for the whole text.
class Library {
 public:
  explicit Library(const std::string& model) {
    const auto status = processor_.LoadFromSerializedProto(model);
    INFO(status.ToString());
    REQUIRE(status.ok());
  }
  Ids encode(const std::string& text) const {
    Ids ids;
    REQUIRE(processor_.Encode(replace_invalid_utf8(text), &ids).ok());
    return ids;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

/// Where two long id lists first differ, not a page of numbers.
void require_same(const Ids& actual, const Ids& expected) {
  const auto [a, e] = std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end());
  INFO("first difference at token " << a - actual.begin());
  INFO("sizes " << actual.size() << " and " << expected.size());
  REQUIRE((a == actual.end() && e == expected.end()));
}

}  // namespace

TEST_CASE("Bundled tokenizer: ids are those of one library call, for hostile texts") {
  const Library library(bundled_model());
  const SentencePieceTokenizer tokenizer = bundled_tokenizer(7);
  Random random(1);
  std::string words;
  while (words.size() < 3'000'000) words += random_mixture(random, 20) + " word and another\n";
  const std::vector<std::string> texts = {
      "",
      " ",
      "a",
      "   leading and trailing   ",
      "\n\t \r\n",
      "\x01",
      " \x01 ",
      words,
      std::string(300'000, ' '),
      std::string(300'000, '\n') + "x" + std::string(200'000, '\t'),
      std::string(200'000, 'a'),
      std::string(1'000'000, 'e') + " end",
      random_characters(random, 500'000),
      random_bytes(random, 2'000'000),
      random_mixture(random, 3'000'000),
  };
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i, texts[i].size());
    require_same(tokenizer.encode(texts[i]), library.encode(texts[i]));
  }
}

TEST_CASE("Bundled tokenizer: ids do not depend on the number of threads") {
  Random random(2);
  const std::string text = random_mixture(random, 2'000'000) + std::string(100'000, ' ') +
                           random_mixture(random, 500'000) + " <|user|> <|end|>";
  const Ids expected = bundled_tokenizer().encode_in_one_call(text);
  for (const int num_threads : {1, 2, 3, 5, 16, 40}) {
    CAPTURE(num_threads);
    require_same(bundled_tokenizer(num_threads).encode(text), expected);
  }
}

TEST_CASE("Bundled tokenizer: no neighbours of a space make the cut there wrong") {
  const Library library(bundled_model());
  const SentencePieceTokenizer tokenizer = bundled_tokenizer();
  const std::vector<std::string> runs = {" ",      "  ",      "\n",      "\t",       "\r\n",
                                         " \n ",   "\x01",    " \x01 ",  "\u00A0",   " \u3000",
                                         "\v",     "\f ",     "\x7F ",   "\u200B ",  "\u2581",
                                         "\u2028", " \u0300", "\uFEFF ", "\xC2\x85 "};
  for (char left = 0x20; left < 0x7F; ++left) {
    for (char right = 0x20; right < 0x7F; ++right) {
      std::string text;
      for (const std::string& run : runs) text += "in" + std::string(1, left) + run + right + "ly";
      CAPTURE(text);
      REQUIRE(tokenizer.encode(text) == library.encode(text));
    }
  }
}

TEST_CASE("Bundled tokenizer: short mixtures, many") {
  const Library library(bundled_model());
  const SentencePieceTokenizer tokenizer = bundled_tokenizer();
  Random random(3);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_mixture(random, below(random, 300));
    CAPTURE(round, text);
    REQUIRE(tokenizer.encode(text) == library.encode(text));
  }
}

TEST_CASE("Any vocabulary: pieces that cross spaces, tied scores, characters that are no piece") {
  Random random(4);
  const std::vector<std::string> alphabet = {"a", "b", "c", "\u2581", "\n", "\u00E9"};
  for (int round = 0; round < 120; ++round) {
    SentencePieceTestModel model;
    model.add_dummy_prefix = round % 4 != 0;
    model.remove_extra_whitespaces = round % 3 == 0;
    const bool crosses_spaces = round % 2 == 0;
    std::vector<std::string> pieces = {"a", "b", "\u2581"};
    std::set<std::string> known = {"\u2581"};
    for (size_t i = 0; i < 40; ++i) {
      const std::string piece =
          i < 3 ? pieces[i] : pick(random, pieces) + pick(random, i % 3 == 0 ? alphabet : pieces);
      const bool crosses = piece.find("\u2581", 1) != std::string::npos;
      if ((crosses && !crosses_spaces) || piece.size() > 60 || !known.insert(piece).second)
        continue;
      pieces.push_back(piece);
      model.add(piece, -static_cast<float>(below(random, 12)));
    }
    const std::string bytes = model.serialize();
    const Library library(bytes);
    const SentencePieceTokenizer tokenizer = make_tokenizer(bytes);
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::string text;
      for (size_t i = below(random, 400); i > 0; --i) {
        text += pick(random, {"a", "b", "c", " ", " ", "   ", "\n", "\u00E9", "z", "ab", "\u65E5"});
      }
      CAPTURE(round, repeat, text);
      require_same(tokenizer.encode(text), library.encode(text));
    }
  }
}

TEST_CASE("Text never becomes a special token, and reads back as it was") {
  const SentencePieceTokenizer tokenizer = bundled_tokenizer(3);
  std::vector<std::string> texts = {
      "<|user|>", "a <|user|> b",     "<|assistant|>x<|end|>", "<s>", "</s>", "<unk>",
      "<0x0A>",   "<|<|user|>user|>", "<|system|><|system|>"};
  std::string long_text = "<|end|>";
  while (long_text.size() < 500'000) long_text += " <|user|>x <|assistant|> <s> <|end|>";
  texts.push_back(long_text);
  for (const std::string& text : texts) {
    const Ids ids = tokenizer.encode(text);
    CAPTURE(text.substr(0, 40));
    CHECK(
        std::none_of(ids.begin(), ids.end(), [&](TokenId id) { return tokenizer.is_special(id); }));
    CHECK(tokenizer.decode(ids, true) == text);
    CHECK(tokenizer.decode(ids, false) == text);
    require_same(ids, tokenizer.encode_in_one_call(text));
  }
  Random random(5);
  for (int round = 0; round < 500; ++round) {
    for (const TokenId id : tokenizer.encode(random_mixture(random, 200))) {
      REQUIRE_FALSE(tokenizer.is_special(id));
    }
  }
}

TEST_CASE("Special tokens are found by name and have no text of their own") {
  const SentencePieceTokenizer tokenizer = bundled_tokenizer();
  for (const char* name : {"<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"}) {
    const auto id = tokenizer.special_token(name);
    CAPTURE(name);
    REQUIRE(id.has_value());
    CHECK(tokenizer.is_special(*id));
    CHECK(tokenizer.piece_name(*id) == name);
    CHECK(tokenizer.decode({*id}, true).empty());
    CHECK(tokenizer.decode({*id}, false) == name);
  }
  CHECK_FALSE(tokenizer.special_token("the").has_value());
  CHECK_FALSE(tokenizer.special_token("<0x0A>").has_value());
  CHECK(tokenizer.bos() == tokenizer.special_token("<s>"));
  CHECK(tokenizer.vocab_size() == 4096);
}

TEST_CASE("Without normalisation every valid text reads back exactly") {
  SentencePieceTestModel model({"<|user|>"});
  float score = 0;
  for (const char* piece : {"a", "b", "\u2581a", "\u2581\u2581", "\u2581\u2581\u2581", "ab", "<|",
                            "\n", "\u00E9", "e"}) {
    model.add(piece, --score);
  }
  const SentencePieceTokenizer tokenizer = make_tokenizer(model.serialize());
  Random random(6);
  for (int round = 0; round < 300; ++round) {
    std::string text = round % 2 == 0 ? random_characters(random, below(random, 300))
                                      : " " + random_characters(random, 5) + "   <|user|> ab\n ";
    // The one character that stands for another: it is how the vocabulary writes a space.
    for (size_t pos; (pos = text.find("\u2581")) != std::string::npos;) text.erase(pos, 3);
    const Ids ids = tokenizer.encode(text);
    CAPTURE(round);
    CHECK(tokenizer.decode(ids, true) == text);
    CHECK(tokenizer.decode(ids, false) == text);
  }
  const std::string controls("\0\x01\x1F\x7F\t\r\n", 7);
  CHECK(tokenizer.decode(tokenizer.encode(controls), true) == controls);
  // Invalid UTF-8 is read as one U+FFFD for each bad byte.
  CHECK(tokenizer.decode(tokenizer.encode("a\xFF\xE2\x96 b"), true) == "a\uFFFD\uFFFD\uFFFD b");
  CHECK(tokenizer.decode(tokenizer.encode("\xC3"), true) == "\uFFFD");
}

TEST_CASE("The bundled model's normaliser: NFKC, whitespace runs become one space") {
  const SentencePieceTokenizer tokenizer = bundled_tokenizer();
  const auto read_back = [&](std::string_view text) {
    return tokenizer.decode(tokenizer.encode(text), true);
  };
  CHECK(read_back("one  two\n\nthree\tfour ") == "one two three four");
  CHECK(read_back("\uFB01ne \uFF21\u00BD e\u0301") == "fine A1\u20442 \u00E9");
  CHECK(read_back("\U0001F600 \u65E5\u672C") == "\U0001F600 \u65E5\u672C");
  const std::string plain = "Already normal text, with punctuation: it stays.";
  CHECK(read_back(plain) == plain);
  // One pass of rules: a letter that came out of one does not see the accent behind it.
  CHECK(read_back("\u2105\u0301") == "c/o\u0301");
  CHECK(read_back("c/o\u0301") == "c/\u00F3");
}

TEST_CASE("Several threads may encode at once") {
  const SentencePieceTokenizer tokenizer = bundled_tokenizer(2);
  Random random(8);
  const std::string text = random_mixture(random, 300'000);
  const Ids expected = tokenizer.encode_in_one_call(text);
  std::vector<Ids> results(4);
  {
    std::vector<std::jthread> threads;
    for (Ids& result : results) threads.emplace_back([&] { result = tokenizer.encode(text); });
  }
  for (const Ids& result : results) require_same(result, expected);
}

TEST_CASE(
    "Bundled tokenizer: ids stay the same when the memory of words overflows and starts anew") {
  const SentencePieceTokenizer tokenizer(kModelDir / "tokenizer.model", 2);
  std::string many_words = "first";
  for (int i = 0; i < 120'000; ++i) many_words += ' ' + std::to_string(i);
  const std::string sample = many_words.substr(0, 20'000);
  const Ids expected = tokenizer.encode_in_one_call(sample);
  const Ids of_all = tokenizer.encode(many_words);
  CHECK(tokenizer.encode(sample) == expected);
  CHECK(tokenizer.encode(many_words) == of_all);
  CHECK(std::equal(expected.begin(), expected.end() - 8, of_all.begin()));
}

TEST_CASE("A tokenizer.model that is none is refused with a reason") {
  CHECK_NOTHROW(make_tokenizer(SentencePieceTestModel().serialize()));
  CHECK_THROWS_AS(make_tokenizer(""), LoadError);
  CHECK_THROWS_AS(make_tokenizer("this is no model"), LoadError);
  Random random(9);
  for (int round = 0; round < 100; ++round) {
    try {
      const auto tokenizer =
          make_tokenizer(bundled_model().substr(0, below(random, bundled_model().size())));
      for (const TokenId id : tokenizer.encode(random_mixture(random, 500))) {
        CHECK((id >= 0 && id < tokenizer.vocab_size()));
      }
    } catch (const LoadError&) {
    }
  }
}

TEST_CASE("Piece types: those that were written, and damage never leads outside the bytes") {
  SentencePieceTestModel model({"<|user|>"});
  model.add("ab", -1);
  const auto types = read_piece_types(model.serialize());
  REQUIRE(types);
  REQUIRE(types->size() == 3 + 1 + 256 + 1 + 1);
  CHECK((*types)[0] == PieceType::kUnknown);
  CHECK((*types)[1] == PieceType::kControl);
  CHECK((*types)[3] == PieceType::kUserDefined);
  CHECK((*types)[4] == PieceType::kByte);
  CHECK(types->back() == PieceType::kNormal);
  Random random(10);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = model.serialize();
    if (round % 2 == 0) bytes.resize(below(random, bytes.size()));
    for (int i = 0; i < 5 && !bytes.empty(); ++i) {
      bytes[below(random, bytes.size())] = static_cast<char>(random());
    }
    const auto damaged = read_piece_types(bytes);
    CHECK((!damaged || damaged->size() <= bytes.size()));
  }
}

TEST_CASE("load_tokenizer reads a model folder and names what is missing") {
  const auto tokenizer = load_tokenizer(kModelDir, 2);
  CHECK(tokenizer->decode(tokenizer->encode("The cat sat."), true) == "The cat sat.");
  CHECK_THROWS_AS(load_tokenizer(QUIRE_SOURCE_DIR "/engine", 1), LoadError);
}

}  // namespace quire
