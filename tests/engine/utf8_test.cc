#include "engine/text/utf8.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <unordered_set>

namespace quire {
namespace {

using Kind = Utf8Prefix::Kind;

/// The definition: a character is what encoding some scalar value gives.
std::string encode_utf8(uint32_t character) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | ((character >> shift) & 0x3F));
  };
  if (character < 0x80) return {static_cast<char>(character)};
  if (character < 0x800) return {static_cast<char>(0xC0 | character >> 6), tail(0)};
  if (character < 0x10000) {
    return {static_cast<char>(0xE0 | character >> 12), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0 | character >> 18), tail(12), tail(6), tail(0)};
}

/// All characters and all their proper prefixes.
struct WellFormed {
  WellFormed() {
    for (uint32_t character = 0; character < 0x110000; ++character) {
      if (character == 0xD800) character = 0xE000;  // surrogates are no characters
      const std::string bytes = encode_utf8(character);
      characters.insert(bytes);
      for (size_t i = 1; i < bytes.size(); ++i) beginnings.insert(bytes.substr(0, i));
    }
  }
  std::unordered_set<std::string> characters;
  std::unordered_set<std::string> beginnings;
};

Utf8Prefix expected(const WellFormed& known, const std::string& bytes) {
  for (size_t i = 1; i <= bytes.size(); ++i) {
    const std::string prefix = bytes.substr(0, i);
    if (known.characters.contains(prefix)) return {Kind::kCharacter, i};
    if (!known.beginnings.contains(prefix)) return {Kind::kInvalid, std::max<size_t>(i - 1, 1)};
  }
  return {Kind::kIncomplete, bytes.size()};
}

bool agrees(const WellFormed& known, const std::string& bytes) {
  const Utf8Prefix actual = classify_utf8(bytes);
  const Utf8Prefix wanted = expected(known, bytes);
  return actual.kind == wanted.kind && actual.num_bytes == wanted.num_bytes;
}

}  // namespace

TEST_CASE("UTF-8: what stands at the front is told as the definition tells it") {
  const WellFormed known;
  size_t num_wrong = 0;
  for (const std::string& bytes : known.characters) num_wrong += !agrees(known, bytes);
  const std::string tails("\x00\x41\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xED\xFF", 12);
  for (int lead = 0; lead < 256; ++lead) {
    const std::string one(1, static_cast<char>(lead));
    num_wrong += !agrees(known, one);
    for (const char second : tails) {
      for (const char third : tails) {
        num_wrong += !agrees(known, one + second + third);
        for (const char fourth : tails) {
          num_wrong += !agrees(known, one + second + third + fourth);
        }
      }
    }
  }
  CHECK(num_wrong == 0);
}

TEST_CASE("UTF-8: validity, wherever the bad byte stands in a run of ASCII") {
  CHECK(is_valid_utf8(""));
  for (size_t at = 0; at < 40; ++at) {
    std::string text(40, 'x');
    CHECK(is_valid_utf8(text));
    text[at] = '\x80';
    CAPTURE(at);
    CHECK_FALSE(is_valid_utf8(text));
    CHECK(replace_invalid_utf8(text) == text.substr(0, at) + "\uFFFD" + text.substr(at + 1));
  }
  CHECK_FALSE(is_valid_utf8("whole \xE2\x82"));
}

TEST_CASE("UTF-8: every bad byte becomes one U+FFFD") {
  CHECK(replace_invalid_utf8("a\xFF\xE2\x96 b") == "a\uFFFD\uFFFD\uFFFD b");
  CHECK(replace_invalid_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(replace_invalid_utf8("\u00E9\xC3") == "\u00E9\uFFFD");
  const std::string valid("nul \0 and \U0001F600 stay", 20);
  CHECK(replace_invalid_utf8(valid) == valid);
}

}  // namespace quire
