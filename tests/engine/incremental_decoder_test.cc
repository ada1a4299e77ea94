#include "engine/text/incremental_decoder.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/utf8.h"

namespace quire {
namespace {

/// Tokens 0-255 are bytes; then some pieces; then a special token.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kWord = 256;      // "▁word"
  static constexpr TokenId kFragment = 257;  // "ing"
  static constexpr TokenId kSpecial = 258;   // "<|end|>"

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }
  void append_piece(TokenId token, std::string& out) const override {
    if (token < 256) out += static_cast<char>(token);
    if (token == kWord) out += " word";
    if (token == kFragment) out += "ing";
  }
  std::optional<TokenId> special_token(std::string_view) const override { return kSpecial; }
  bool is_special(TokenId token) const override { return token == kSpecial; }
  std::string piece_name(TokenId) const override { return "<|end|>"; }
  int32_t vocab_size() const override { return 259; }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::string decode(const std::vector<TokenId>&, bool) const override { return {}; }
};

using SpecialTokens = IncrementalDecoder::SpecialTokens;
using FirstSpace = IncrementalDecoder::FirstSpace;
constexpr TokenId kWord = ByteTokenizer::kWord;
constexpr TokenId kFragment = ByteTokenizer::kFragment;
constexpr TokenId kSpecial = ByteTokenizer::kSpecial;

/// What each byte brings out, then what flush() does.
std::vector<std::string> outputs(std::string_view bytes) {
  const ByteTokenizer tokenizer;
  IncrementalDecoder decoder(tokenizer, SpecialTokens::kSkip, FirstSpace::kKeep);
  std::vector<std::string> all;
  for (const TokenId token : tokenizer.encode(bytes)) all.push_back(decoder.push(token));
  all.push_back(decoder.flush());
  return all;
}

std::string joined(std::string_view bytes) {
  std::string text;
  for (const std::string& output : outputs(bytes)) text += output;
  return text;
}

}  // namespace

TEST_CASE("IncrementalDecoder: a character comes out with its last byte, not before") {
  using Outputs = std::vector<std::string>;
  CHECK(outputs("\u00E9") == Outputs{"", "\u00E9", ""});
  CHECK(outputs("\u20AC!") == Outputs{"", "", "\u20AC", "!", ""});
  CHECK(outputs("\U0001F600") == Outputs{"", "", "", "\U0001F600", ""});
  CHECK(outputs("\xF0\x9F\x98") == Outputs{"", "", "", "\uFFFD"});
}

TEST_CASE("IncrementalDecoder: one U+FFFD for each maximal subpart") {
  // The example of the Unicode standard, table 3-8.
  CHECK(joined("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64") ==
        "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  CHECK(joined("\xC0\xAF") == "\uFFFD\uFFFD");            // overlong
  CHECK(joined("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");  // surrogate
  CHECK(joined("\xF4\x90\x80\x80") == "\uFFFD\uFFFD\uFFFD\uFFFD");
  CHECK(joined("\xE2\x82x") == "\uFFFDx");
  CHECK(joined("\xF0\x9F\xE2\x82\xAC") == "\uFFFD\u20AC");
}

TEST_CASE("IncrementalDecoder: valid text comes out as it was, garbage comes out valid") {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    std::string garbage;
    for (int i = 0; i < 40; ++i) {
      garbage += static_cast<char>(random() % 3 == 0 ? random() : 0x80 | random() % 0x60);
    }
    for (const std::string& output : outputs(garbage)) REQUIRE(is_valid_utf8(output));
    const std::string text = replace_invalid_utf8(garbage);
    CHECK(joined(text) == text);
  }
}

TEST_CASE("IncrementalDecoder: special tokens are skipped or shown") {
  const ByteTokenizer tokenizer;
  IncrementalDecoder skips(tokenizer, SpecialTokens::kSkip, FirstSpace::kKeep);
  CHECK(skips.push('a') == "a");
  CHECK(skips.push(kSpecial).empty());
  CHECK(skips.push('b') == "b");
  IncrementalDecoder shows(tokenizer, SpecialTokens::kShow, FirstSpace::kKeep);
  CHECK(shows.push(0xE2).empty());
  CHECK(shows.push(kSpecial) == "\uFFFD<|end|>");
  CHECK(shows.flush().empty());
}

TEST_CASE("IncrementalDecoder: the first space of an answer belongs to the encoding") {
  const ByteTokenizer tokenizer;
  const auto text_of = [&](FirstSpace first_space, const std::vector<TokenId>& tokens) {
    IncrementalDecoder decoder(tokenizer, SpecialTokens::kSkip, first_space);
    std::string text;
    for (const TokenId token : tokens) text += decoder.push(token);
    return text + decoder.flush();
  };
  CHECK(text_of(FirstSpace::kDrop, {kWord, kFragment, kWord}) == "wording word");
  CHECK(text_of(FirstSpace::kDrop, {' ', kWord}) == " word");
  CHECK(text_of(FirstSpace::kDrop, {kFragment, kWord}) == "ing word");
  CHECK(text_of(FirstSpace::kDrop, {kSpecial, kWord}) == "word");
  CHECK(text_of(FirstSpace::kKeep, {kWord}) == " word");
}

TEST_CASE("IncrementalDecoder: all its pieces together are the text of all tokens") {
  const auto tokenizer = load_tokenizer(QUIRE_BUNDLED_MODEL, 1);
  std::mt19937 random(9);
  std::vector<TokenId> ordinary;
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    if (!tokenizer->is_special(id)) ordinary.push_back(id);
  }
  const auto check = [&](const std::vector<TokenId>& ids) {
    IncrementalDecoder decoder(*tokenizer, SpecialTokens::kSkip, FirstSpace::kDrop);
    std::string text;
    for (const TokenId id : ids) {
      const std::string output = decoder.push(id);
      REQUIRE(is_valid_utf8(output));
      text += output;
    }
    CHECK(text + decoder.flush() == tokenizer->decode(ids, true));
  };
  check(
      tokenizer->encode("Caf\u00E9 \U0001F600\U0001F9D1\u200D\U0001F680 \u65E5\u672C\u8A9E, "
                        "\u0416\u0443\u043A and \U00012345."));
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 60; ++i) {
      text += random() % 2 == 0 ? std::string("\U0001F600") : std::string(1, ' ');
      text += static_cast<char>('a' + random() % 26);
    }
    check(tokenizer->encode(text));
    check({ordinary[random() % ordinary.size()]});
  }
}

}  // namespace quire
