#include "engine/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace quire {
namespace {

/// Length of the leading run of ASCII, eight bytes at a time.
size_t ascii_prefix(std::string_view bytes) {
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (i < bytes.size() && static_cast<unsigned char>(bytes[i]) < 0x80) ++i;
  return i;
}

struct LeadByte {
  size_t num_bytes;                       // of the whole character; 0 = no character starts so
  unsigned char second_low, second_high;  // range of the second byte
};

LeadByte classify_lead(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Prefix classify_utf8(std::string_view bytes) {
  const LeadByte lead = classify_lead(static_cast<unsigned char>(bytes[0]));
  if (lead.num_bytes == 0) return {Utf8Prefix::Kind::kInvalid, 1};
  for (size_t i = 1; i < lead.num_bytes; ++i) {
    if (i == bytes.size()) return {Utf8Prefix::Kind::kIncomplete, i};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Prefix::Kind::kInvalid, i};
  }
  return {Utf8Prefix::Kind::kCharacter, lead.num_bytes};
}

bool is_valid_utf8(std::string_view bytes) {
  while (true) {
    bytes.remove_prefix(ascii_prefix(bytes));
    if (bytes.empty()) return true;
    const Utf8Prefix prefix = classify_utf8(bytes);
    if (prefix.kind != Utf8Prefix::Kind::kCharacter) return false;
    bytes.remove_prefix(prefix.num_bytes);
  }
}

size_t begin_of_last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

std::string shortened(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  const size_t end = begin_of_last_character(text.substr(0, max_bytes + 1));
  return std::string(text.substr(0, end)) + "…";
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t num_ascii = ascii_prefix(bytes);
    text.append(bytes.substr(0, num_ascii));
    bytes.remove_prefix(num_ascii);
    if (bytes.empty()) break;
    const Utf8Prefix prefix = classify_utf8(bytes);
    if (prefix.kind == Utf8Prefix::Kind::kCharacter) {
      text.append(bytes.substr(0, prefix.num_bytes));
    } else {
      for (size_t i = 0; i < prefix.num_bytes; ++i) text.append(kReplacementCharacter);
    }
    bytes.remove_prefix(prefix.num_bytes);
  }
  return text;
}

}  // namespace quire
