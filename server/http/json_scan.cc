#include "server/http/json_scan.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

namespace quire {
namespace {

bool is_special(char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20; }

size_t skip_white(std::string_view text, size_t pos) {
  return std::min(text.find_first_not_of(" \t\r\n", pos), text.size());
}

/// Behind the string whose opening quote stands at `pos`.
size_t behind_string(std::string_view text, size_t pos) {
  return std::min(find_string_end(text, pos + 1) + 1, text.size());
}

/// Where the value that begins at `pos` is over: at a comma or a bracket that is not its own.
size_t find_value_end(std::string_view text, size_t pos) {
  int depth = 0;
  while (pos < text.size()) {
    const char c = text[pos];
    if (c == '"') {
      pos = behind_string(text, pos);
      continue;
    }
    if (c == '[' || c == '{') ++depth;
    if (depth == 0 && (c == ',' || c == ']' || c == '}')) break;
    if (c == ']' || c == '}') --depth;
    ++pos;
  }
  return pos;
}

/// `quoted` with its quotes; a name may be written with escapes.
bool is_name(std::string_view quoted, std::string_view name) {
  if (quoted.find('\\') == std::string_view::npos) {
    return quoted.size() == name.size() + 2 && quoted.substr(1, name.size()) == name;
  }
  const nlohmann::json spelled = nlohmann::json::parse(quoted, nullptr, false);
  return spelled.is_string() && spelled.get_ref<const std::string&>() == name;
}

}  // namespace

size_t find_special_character(std::string_view text, size_t from) {
  constexpr uint64_t kOnes = 0x0101010101010101u, kHighBits = 0x8080808080808080u;
  const auto has_zero = [](uint64_t word) { return (word - kOnes) & ~word & kHighBits; };
  size_t i = from;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, sizeof(word));
    const uint64_t controls = (word - kOnes * 0x20) & ~word & kHighBits;
    if ((has_zero(word ^ (kOnes * '"')) | has_zero(word ^ (kOnes * '\\')) | controls) != 0) break;
  }
  while (i < text.size() && !is_special(text[i])) ++i;
  return i;
}

size_t find_string_end(std::string_view text, size_t from) {
  size_t i = find_special_character(text, from);
  while (i < text.size() && text[i] != '"')
    i = find_special_character(text, i + (text[i] == '\\' ? 2 : 1));
  return std::min(i, text.size());
}

std::string_view member_text(std::string_view object, std::string_view name) {
  std::string_view found;
  size_t pos = skip_white(object, 0) + 1;
  while ((pos = skip_white(object, pos)) < object.size() && object[pos] == '"') {
    const size_t name_end = behind_string(object, pos);
    const bool is_wanted = is_name(object.substr(pos, name_end - pos), name);
    const size_t begin =
        skip_white(object, std::min(object.find(':', name_end), object.size() - 1) + 1);
    const size_t end = find_value_end(object, begin);
    if (is_wanted) found = object.substr(begin, end - begin);
    pos = end + 1;  // behind the comma
  }
  return found;
}

std::vector<std::string_view> element_texts(std::string_view list) {
  std::vector<std::string_view> elements;
  size_t pos = skip_white(list, 0) + 1;
  while ((pos = skip_white(list, pos)) < list.size() && list[pos] != ']') {
    const size_t end = find_value_end(list, pos);
    elements.push_back(list.substr(pos, end - pos));
    pos = end + 1;
  }
  return elements;
}

}  // namespace quire
