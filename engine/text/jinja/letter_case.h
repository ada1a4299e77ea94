#pragma once

#include <string>

namespace quire::jinja {

/// The letter in the other case, as Unicode maps one character to one; what has none stays as it
/// is.
char32_t to_upper(char32_t code);
char32_t to_lower(char32_t code);
bool is_cased(char32_t code);
/// What may stand in a word without ending it: apostrophes, points, accents and the like.
bool is_case_ignorable(char32_t code);

/// The same as one or more characters, as Python's str.upper, title and lower: "SS" for an eszett,
/// "Ss" where a word begins with it.
void append_upper(char32_t code, std::string& out);
void append_title(char32_t code, std::string& out);
void append_lower(char32_t code, std::string& out);

}  // namespace quire::jinja
