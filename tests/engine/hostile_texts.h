#pragma once

#include <random>
#include <string>
#include <vector>

#include "engine/text/utf8.h"

namespace quire {

using Random = std::mt19937;

inline size_t below(Random& random, size_t bound) { return random() % bound; }

inline const std::string& pick(Random& random, const std::vector<std::string>& from) {
  return from[below(random, from.size())];
}

/// ASCII and characters of every length.
inline std::string random_characters(Random& random, size_t num_characters) {
  std::string text;
  while (num_characters > 0) {
    // A lead byte and as many tails as it wants; what is no character is dropped.
    std::string bytes(1, static_cast<char>(below(random, 2) == 0 ? below(random, 128)
                                                                 : 0xC2 + below(random, 0x33)));
    while (classify_utf8(bytes).kind == Utf8Prefix::Kind::kIncomplete) {
      bytes += static_cast<char>(0x80 + below(random, 64));
    }
    if (classify_utf8(bytes).kind != Utf8Prefix::Kind::kCharacter) continue;
    text += bytes;
    --num_characters;
  }
  return text;
}

inline std::string random_bytes(Random& random, size_t num_bytes) {
  std::string text;
  while (text.size() < num_bytes) text += static_cast<char>(random());
  return text;
}

/// Words, whitespace of all kinds, CJK, emoji, combining accents, control characters, bad bytes.
inline std::string random_mixture(Random& random, size_t num_bytes) {
  static const std::vector<std::string> kBits{"the",
                                              "house",
                                              "Block",
                                              "tokenization",
                                              "a",
                                              "e",
                                              "x1",
                                              "42",
                                              "...",
                                              ", ",
                                              "``",
                                              "-",
                                              "'s",
                                              " ",
                                              " ",
                                              " ",
                                              "  ",
                                              "     ",
                                              "\n",
                                              "\n\n",
                                              "\r\n",
                                              "\t",
                                              " \t ",
                                              "\u00A0",
                                              "\u3000",
                                              "\u200B",
                                              "\u2581",
                                              "\u2581\u2581",
                                              "\u65E5\u672C\u8A9E",
                                              "\u4E2D",
                                              "\U0001F600",
                                              "\uFB01",
                                              "\u00E9",
                                              "e\u0301",
                                              "a\u0308\u0301",
                                              "\u1E9B\u0323",
                                              "\uFF21\uFF22",
                                              "\u0300",
                                              "\u00BD",
                                              "\u3392",
                                              "\u1100\u1161\u11A8",
                                              "\uAC00\u11A8",
                                              "\u00B4",
                                              "\x01",
                                              "\x7F",
                                              std::string(1, '\0'),
                                              "\xFF",
                                              "\xE2\x96",
                                              "\xC3",
                                              "\xED\xA0\x80",
                                              "\xF0\x9F\x98",
                                              "\xEF\xBF\xBD",
                                              "<",
                                              "<|",
                                              "|>",
                                              "<s>"};
  std::string text;
  while (text.size() < num_bytes) text += pick(random, kBits);
  return text;
}

}  // namespace quire
