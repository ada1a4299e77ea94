#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace quire {

/// The replacement character U+FFFD.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// What stands at the start of some bytes (Unicode 15, table 3-7: no overlongs, no surrogates,
/// nothing above U+10FFFF).
struct Utf8Prefix {
  enum class Kind {
    kCharacter,   // num_bytes make one character
    kInvalid,     // num_bytes (>= 1) can never become one: a maximal subpart, or a stray byte
    kIncomplete,  // all num_bytes given so far are a proper prefix of some character
  };
  Kind kind;
  size_t num_bytes;
};

/// REQUIRES: bytes is not empty.
Utf8Prefix classify_utf8(std::string_view bytes);

bool is_valid_utf8(std::string_view bytes);

/// Where the character that `text` ends with begins. REQUIRES: text is not empty.
size_t begin_of_last_character(std::string_view text);

/// The start of a text for an error message: at most `max_bytes` of it, cut between characters, and
/// an ellipsis where something is missing.
std::string shortened(std::string_view text, size_t max_bytes);

/// Every byte that belongs to no character becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace quire
