#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace quire::jinja {

/// One character of a text. A byte that begins none counts as a character of its own, so that every
/// text can be walked; `code` is then U+FFFD.
struct Character {
  char32_t code;
  size_t num_bytes;
};

/// REQUIRES: pos < text.size().
Character character_at(std::string_view text, size_t pos);
size_t count_characters(std::string_view text);
/// The byte at which character `index` starts; text.size() behind the last one.
size_t byte_of_character(std::string_view text, size_t index);
void append_utf8(char32_t code, std::string& out);

/// Where the character begins that ends at byte `end`. REQUIRES: 0 < end <= text.size().
size_t begin_of_last(std::string_view text, size_t end);
/// What Python's str.isspace calls white space.
bool is_space(char32_t code);
size_t begin_of_stripped(std::string_view text);
/// REQUIRES: the text from `begin` on is where stripping the left side ended.
size_t end_of_stripped(std::string_view text, size_t begin);

bool is_letter(char32_t code);
/// Decimal digits of any script.
bool is_digit(char32_t code);
/// Digits, fractions, roman numerals and the like.
bool is_number(char32_t code);
/// Letters, numbers and the underscore: what \w of Python's re matches.
bool is_word_character(char32_t code);

}  // namespace quire::jinja
