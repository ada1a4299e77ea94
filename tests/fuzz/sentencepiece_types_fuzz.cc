// Any bytes are either no model or give one known type for each piece, and a piece takes at least
// two bytes. Reads outside the bytes are the sanitizer's to find.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/text/sentencepiece_types.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto types = quire::read_piece_types({reinterpret_cast<const char*>(data), size});
  if (!types) return 0;
  if (types->size() * 2 > size) std::abort();
  for (const quire::PieceType type : *types) {
    if (type < quire::PieceType::kNormal || type > quire::PieceType::kByte) std::abort();
  }
  return 0;
}
