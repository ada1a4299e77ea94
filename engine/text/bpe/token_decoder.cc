#include "engine/text/bpe/token_decoder.h"

#include <cstdlib>
#include <string_view>

#include "engine/text/bpe/byte_alphabet.h"
#include "engine/text/bpe/text_normalizer.h"

namespace quire {
namespace {

bool is_byte_name(const std::string& name) {
  constexpr std::string_view kHexDigits = "0123456789ABCDEFabcdef";
  return name.size() == 6 && name.starts_with("<0x") && name[5] == '>' &&
         kHexDigits.find(name[3]) != std::string_view::npos &&
         kHexDigits.find(name[4]) != std::string_view::npos;
}

}  // namespace

std::string TokenDecoder::bytes_of(const std::string& name) const {
  if (has_byte_fallback && is_byte_name(name)) {
    return std::string(1, static_cast<char>(std::strtol(name.substr(3, 2).c_str(), nullptr, 16)));
  }
  std::string bytes = name;
  for (const Replacement& replacement : replacements) {
    bytes = replace_text(bytes, replacement.from, replacement.to);
  }
  // A token of other characters stands for itself.
  return is_byte_level ? bytes_of_spelling(bytes).value_or(bytes) : bytes;
}

}  // namespace quire
