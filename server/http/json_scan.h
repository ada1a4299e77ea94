#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

// Finds places in JSON text without building anything. What is said about JSON that is not
// well-formed stays inside the text and means nothing.

namespace quire {

/// The next quote, backslash or control character at or behind `from`; text.size() without one.
size_t find_special_character(std::string_view text, size_t from);

/// The closing quote of the string whose content starts at `from`; text.size() without one.
size_t find_string_end(std::string_view text, size_t from);

/// The text of the member of an object, of the last one where several have the name, as parsers
/// have it. Empty if there is none. For what must keep the order of its members, which parsed JSON
/// forgets. REQUIRES: `object` is the well-formed text of one.
std::string_view member_text(std::string_view object, std::string_view name);

/// The texts of a list's elements. REQUIRES: `list` is the well-formed text of one.
std::vector<std::string_view> element_texts(std::string_view list);

}  // namespace quire
