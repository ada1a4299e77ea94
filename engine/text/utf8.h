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

/// Every byte that belongs to no character becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace quire
