#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace quire {

/// Kinds of pieces in a SentencePiece model file (ModelProto.SentencePiece.Type).
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

/// The type of every piece, read from the serialized model: the library's interface does not tell
/// user-defined symbols, which it matches inside text, from words. Nullopt if the bytes are not a
/// well-formed message. Never reads outside `model`.
std::optional<std::vector<PieceType>> read_piece_types(std::string_view model);

}  // namespace quire
