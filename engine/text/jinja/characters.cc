#include "engine/text/jinja/characters.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace quire::jinja {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

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

size_t begin_of_last(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && is_continuation(text[begin])) {
    --begin;
  }
  return begin + character_at(text, begin).num_bytes == end ? begin : end - 1;
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

bool is_digit(char32_t code) {
  constexpr char32_t kZeros[] = {'0', 0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10};
  return std::any_of(std::begin(kZeros), std::end(kZeros),
                     [&](char32_t zero) { return code >= zero && code < zero + 10; });
}

bool is_word_character(char32_t code) {
  if (code < 0x80) {
    return (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') ||
           (code >= 'A' && code <= 'Z') || code == '_';
  }
  return !is_space(code) && std::none_of(std::begin(kSigns), std::end(kSigns), [&](auto& block) {
    return code >= block.first && code <= block.second;
  });
}

}  // namespace quire::jinja
