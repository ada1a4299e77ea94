#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/sentencepiece_types.h"

namespace quire {

/// Writes tokenizer.model files for tests: a ModelProto in wire format.
class SentencePieceTestModel {
 public:
  /// <unk>, <s>, </s>, the markers, 256 bytes and the space; then whatever add() brings.
  explicit SentencePieceTestModel(const std::vector<std::string>& markers = {}) {
    add("<unk>", 0, PieceType::kUnknown);
    add("<s>", 0, PieceType::kControl);
    add("</s>", 0, PieceType::kControl);
    for (const std::string& marker : markers) add(marker, 0, PieceType::kUserDefined);
    for (int value = 0; value < 256; ++value) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      const auto high = static_cast<size_t>(value / 16);
      const auto low = static_cast<size_t>(value % 16);
      add(std::string("<0x") + kDigits[high] + kDigits[low] + '>', 0, PieceType::kByte);
    }
    add("\u2581", -1000, PieceType::kNormal);
  }

  void add(std::string_view text, float score, PieceType type = PieceType::kNormal) {
    std::string piece = bytes_field(1, text);
    uint32_t bits = 0;
    std::memcpy(&bits, &score, sizeof(bits));
    piece += static_cast<char>(2 << 3 | 5);
    for (int i = 0; i < 4; ++i) piece += static_cast<char>(bits >> (8 * i));
    piece += integer_field(3, static_cast<uint64_t>(type));
    pieces_ += bytes_field(1, piece);
  }

  std::string serialize() const {
    std::string trainer = integer_field(3, model_type);
    trainer += integer_field(35, byte_fallback ? 1 : 0);
    std::string normalizer = bytes_field(1, "test") + bytes_field(2, charsmap);
    normalizer += integer_field(3, add_dummy_prefix ? 1 : 0);
    normalizer += integer_field(4, remove_extra_whitespaces ? 1 : 0);
    return pieces_ + bytes_field(2, trainer) + bytes_field(3, normalizer);
  }

  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool byte_fallback = true;
  uint64_t model_type = 2;  // BPE

 private:
  static std::string varint(uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
    return bytes + static_cast<char>(value);
  }
  static std::string integer_field(uint32_t number, uint64_t value) {
    return varint(number << 3) + varint(value);
  }
  static std::string bytes_field(uint32_t number, std::string_view bytes) {
    return varint(number << 3 | 2) + varint(bytes.size()) + std::string(bytes);
  }

  std::string pieces_;
};

}  // namespace quire
