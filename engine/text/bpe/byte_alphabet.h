#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace quire {

/// Byte-level vocabularies write each byte as a printable character: printable Latin-1 as itself,
/// the other 68 bytes as U+0100 and up in their order (a space is "Ġ").
///
/// The bytes that `spelled` stands for; nothing if it holds any other character.
std::optional<std::string> bytes_of_spelling(std::string_view spelled);

}  // namespace quire
