#include "engine/text/bpe/byte_alphabet.h"

#include <utf8proc.h>

#include <array>

namespace quire {
namespace {

constexpr int kNumCharacters = 256 + 68;

/// Byte of each character below U+0144, -1 where it stands for none.
constexpr std::array<int, kNumCharacters> make_bytes() {
  std::array<int, kNumCharacters> bytes{};
  for (int& byte : bytes) byte = -1;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    bytes[static_cast<size_t>(is_printable ? byte : next++)] = byte;
  }
  return bytes;
}

constexpr std::array<int, kNumCharacters> kBytes = make_bytes();

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelled) {
  std::string bytes;
  while (!spelled.empty()) {
    utf8proc_int32_t character = -1;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(spelled.data()),
                                         static_cast<utf8proc_ssize_t>(spelled.size()), &character);
    if (length <= 0 || character < 0 || character >= kNumCharacters) return std::nullopt;
    const int byte = kBytes[static_cast<size_t>(character)];
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    spelled.remove_prefix(static_cast<size_t>(length));
  }
  return bytes;
}

}  // namespace quire
