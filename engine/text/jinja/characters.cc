#include "engine/text/jinja/characters.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace quire::jinja {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

/// Letters that alternate: an even code is upper case, the next one its lower case.
bool is_even_pair(char32_t code) {
  return (code >= 0x100 && code <= 0x137 && code != 0x130 && code != 0x131) ||
         (code >= 0x14A && code <= 0x177) || (code >= 0x460 && code <= 0x481) ||
         (code >= 0x48A && code <= 0x4BF) || (code >= 0x4D0 && code <= 0x52F) ||
         (code >= 0x1E00 && code <= 0x1E95) || (code >= 0x1EA0 && code <= 0x1EFF);
}

/// The same where the odd code is upper case.
bool is_odd_pair(char32_t code) {
  return (code >= 0x139 && code <= 0x148) || (code >= 0x179 && code <= 0x17E) ||
         (code >= 0x4C1 && code <= 0x4CE);
}

/// Blocks that hold no letters and digits, or hardly any.
constexpr std::pair<char32_t, char32_t> kSigns[] = {
    {0x80, 0xA9},       {0xAB, 0xB1},     {0xB4, 0xB4},     {0xB6, 0xB8},       {0xBB, 0xBB},
    {0xBF, 0xBF},       {0xD7, 0xD7},     {0xF7, 0xF7},     {0x300, 0x36F},     {0x2000, 0x206F},
    {0x20A0, 0x20FF},   {0x2190, 0x245F}, {0x249C, 0x24B5}, {0x2500, 0x2775},   {0x2794, 0x2BFF},
    {0x2E00, 0x2E7F},   {0x3000, 0x3004}, {0x3008, 0x3020}, {0x3030, 0x3030},   {0x303D, 0x3040},
    {0x30FB, 0x30FB},   {0xE000, 0xF8FF}, {0xFE00, 0xFE6F}, {0xFEFF, 0xFF0F},   {0xFF1A, 0xFF20},
    {0xFF3B, 0xFF40},   {0xFF5B, 0xFF65}, {0xFFE0, 0xFFFF}, {0x1F000, 0x1F0FF}, {0x1F10D, 0x1FBEF},
    {0xE0000, 0x10FFFF}};

}  // namespace

Character character_at(std::string_view text, size_t pos) {
  const auto lead = static_cast<unsigned char>(text[pos]);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 0 || lead > 0xF4 || pos + length > text.size()) return {kReplacement, 1};
  char32_t code = lead & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if (!is_continuation(text[pos + i])) return {kReplacement, 1};
    code = code << 6 | (static_cast<unsigned char>(text[pos + i]) & 0x3F);
  }
  return {code, length};
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (size_t pos = 0; pos < text.size(); pos += character_at(text, pos).num_bytes) ++count;
  return count;
}

size_t byte_of_character(std::string_view text, size_t index) {
  size_t pos = 0;
  for (; index > 0 && pos < text.size(); --index) pos += character_at(text, pos).num_bytes;
  return pos;
}

void append_utf8(char32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

size_t begin_of_stripped(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size()) {
    const Character character = character_at(text, pos);
    if (!is_space(character.code)) break;
    pos += character.num_bytes;
  }
  return pos;
}

size_t end_of_stripped(std::string_view text, size_t begin) {
  size_t end = text.size();
  while (end > begin) {
    size_t start = end - 1;
    while (start > begin && is_continuation(text[start])) --start;
    const Character last = character_at(text, start);
    if (start + last.num_bytes != end || !is_space(last.code)) break;
    end = start;
  }
  return end;
}

char32_t to_upper(char32_t code) {
  if (code < 0x80) return code >= 'a' && code <= 'z' ? code - 32 : code;
  if (code == 0xB5) return 0x39C;
  if (code == 0xFF) return 0x178;
  if (code == 0x131) return 'I';
  if (code == 0x3C2) return 0x3A3;
  if (code >= 0xE0 && code <= 0xFE && code != 0xF7) return code - 32;
  if (is_even_pair(code)) return code & ~char32_t{1};
  if (is_odd_pair(code)) return code % 2 == 0 ? code - 1 : code;
  if (code == 0x3AC) return 0x386;
  if (code >= 0x3AD && code <= 0x3AF) return code - 37;
  if (code == 0x3CC) return 0x38C;
  if (code == 0x3CD || code == 0x3CE) return code - 63;
  if (code >= 0x3B1 && code <= 0x3CB) return code - 32;
  if (code >= 0x430 && code <= 0x44F) return code - 32;
  if (code >= 0x450 && code <= 0x45F) return code - 80;
  if (code >= 0x561 && code <= 0x586) return code - 48;
  return code;
}

char32_t to_lower(char32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  if (code == 0x178) return 0xFF;
  if (code >= 0xC0 && code <= 0xDE && code != 0xD7) return code + 32;
  if (is_even_pair(code)) return code | 1;
  if (is_odd_pair(code)) return code % 2 == 1 ? code + 1 : code;
  if (code == 0x386) return 0x3AC;
  if (code >= 0x388 && code <= 0x38A) return code + 37;
  if (code == 0x38C) return 0x3CC;
  if (code == 0x38E || code == 0x38F) return code + 63;
  if (code >= 0x391 && code <= 0x3AB && code != 0x3A2) return code + 32;
  if (code >= 0x410 && code <= 0x42F) return code + 32;
  if (code >= 0x400 && code <= 0x40F) return code + 80;
  if (code >= 0x531 && code <= 0x556) return code + 48;
  return code;
}

bool is_word_character(char32_t code) {
  if (code < 0x80) {
    return (code >= '0' && code <= '9') || to_lower(code) != to_upper(code) || code == '_';
  }
  return !is_space(code) && std::none_of(std::begin(kSigns), std::end(kSigns), [&](auto& block) {
    return code >= block.first && code <= block.second;
  });
}

bool is_cased(char32_t code) {
  return to_upper(code) != code || to_lower(code) != code || code == 0xDF;
}

}  // namespace quire::jinja
