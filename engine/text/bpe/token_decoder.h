#pragma once

#include <string>
#include <vector>

namespace quire {

/// How one token reads as text. What a decoder does to a whole answer is the first space alone.
struct TokenDecoder {
  struct Replacement {
    std::string from;  // not empty
    std::string to;
  };
  bool is_byte_level = false;             // spellings stand for bytes (byte_alphabet.h)
  bool has_byte_fallback = false;         // "<0x0A>" is a byte
  std::vector<Replacement> replacements;  // of other tokens, in this order
  bool drops_first_space = false;         // of a text; encoding put it there

  /// What the token spelled `name` stands for; maybe a part of a UTF-8 character.
  std::string bytes_of(const std::string& name) const;
};

}  // namespace quire
