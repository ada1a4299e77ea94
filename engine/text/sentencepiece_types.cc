#include "engine/text/sentencepiece_types.h"

namespace quire {
namespace {

// The protobuf wire format, as far as this file needs it.
enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
constexpr uint64_t kPiecesField = 1;
constexpr uint64_t kTypeField = 3;

class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}

  bool at_end() const { return rest_.empty(); }

  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }

  std::optional<std::string_view> bytes() {
    const std::optional<uint64_t> num_bytes = varint();
    if (!num_bytes) return std::nullopt;
    return take(*num_bytes);
  }

  /// The value of a field of this wire type is passed over.
  bool skip(uint64_t wire_type) {
    switch (wire_type) {
      case kVarint:
        return varint().has_value();
      case kFixed64:
        return take(8).has_value();
      case kBytes:
        return bytes().has_value();
      case kFixed32:
        return take(4).has_value();
      default:
        return false;
    }
  }

 private:
  std::optional<std::string_view> take(uint64_t num_bytes) {
    if (num_bytes > rest_.size()) return std::nullopt;
    const std::string_view taken = rest_.substr(0, num_bytes);
    rest_.remove_prefix(num_bytes);
    return taken;
  }

  std::string_view rest_;
};

std::optional<PieceType> read_piece_type(std::string_view piece) {
  PieceType type = PieceType::kNormal;
  for (WireReader reader(piece); !reader.at_end();) {
    const std::optional<uint64_t> tag = reader.varint();
    if (!tag) return std::nullopt;
    if (*tag == (kTypeField << 3 | kVarint)) {
      const std::optional<uint64_t> value = reader.varint();
      if (!value || *value < 1 || *value > 6) return std::nullopt;
      type = static_cast<PieceType>(*value);
    } else if (!reader.skip(*tag & 7)) {
      return std::nullopt;
    }
  }
  return type;
}

}  // namespace

std::optional<std::vector<PieceType>> read_piece_types(std::string_view model) {
  std::vector<PieceType> types;
  for (WireReader reader(model); !reader.at_end();) {
    const std::optional<uint64_t> tag = reader.varint();
    if (!tag) return std::nullopt;
    if (*tag == (kPiecesField << 3 | kBytes)) {
      const std::optional<std::string_view> piece = reader.bytes();
      const std::optional<PieceType> type = piece ? read_piece_type(*piece) : std::nullopt;
      if (!type) return std::nullopt;
      types.push_back(*type);
    } else if (!reader.skip(*tag & 7)) {
      return std::nullopt;
    }
  }
  return types;
}

}  // namespace quire
