#include "engine/text/gguf_sentencepiece.h"

#include <bit>
#include <cstdint>
#include <vector>

#include "engine/core/ids.h"
#include "engine/text/sentencepiece_types.h"
#include "models/weights/little_endian.h"

namespace quire {
namespace {

constexpr int64_t kMaxTokens = 1 << 22;  // more than any tokenizer has

/// A message in protobuf's wire format.
class WireWriter {
 public:
  WireWriter& number(uint64_t field, uint64_t value) {
    return varint(field << 3 | 0).varint(value);
  }
  WireWriter& text(uint64_t field, std::string_view value) {
    varint(field << 3 | 2).varint(value.size());
    bytes_.append(value);
    return *this;
  }
  WireWriter& real(uint64_t field, float value) {
    varint(field << 3 | 5);
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) bytes_.push_back(static_cast<char>(bits >> (8 * i) & 0xFF));
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  WireWriter& varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
    return *this;
  }

  std::string bytes_;
};

// The fields of SentencePiece's ModelProto that are written here.
enum ModelField : uint64_t { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
enum PieceField : uint64_t { kPiece = 1, kScore = 2, kType = 3 };
enum TrainerField : uint64_t {
  kModelType = 3,
  kByteFallback = 35,
  kUnknownPiece = 45,
  kBosPiece = 46,
  kEosPiece = 47,
};
enum NormalizerField : uint64_t {
  kName = 1,
  kCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};
constexpr uint64_t kBytePairEncoding = 2;

class ModelWriter {
 public:
  explicit ModelWriter(const GgufMetadata& metadata)
      : metadata_(metadata), tokens_(metadata.texts("tokenizer.ggml.tokens")) {}

  std::string write() {
    write_pieces();
    model_.text(kTrainer, trainer().bytes());
    model_.text(kNormalizer, normalizer().bytes());
    return model_.bytes();
  }

 private:
  void write_pieces() {
    if (tokens_.empty() || tokens_.size() > static_cast<size_t>(kMaxTokens)) {
      metadata_.fail("tokenizer.ggml.tokens", std::to_string(tokens_.size()) + " tokens");
    }
    const std::vector<float> scores = metadata_.numbers("tokenizer.ggml.scores");
    const std::vector<int64_t> types = metadata_.integers("tokenizer.ggml.token_type");
    check_length("tokenizer.ggml.scores", scores.size());
    check_length("tokenizer.ggml.token_type", types.size());
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const int64_t type = types[id];
      if (type < static_cast<int64_t>(PieceType::kNormal) ||
          type > static_cast<int64_t>(PieceType::kByte)) {
        metadata_.fail("tokenizer.ggml.token_type",
                       "token " + std::to_string(id) + " is of type " + std::to_string(type));
      }
      if (type == static_cast<int64_t>(PieceType::kUnknown)) unknown_ = tokens_[id];
      model_.text(kPieces, WireWriter()
                               .text(kPiece, tokens_[id])
                               .real(kScore, scores[id])
                               .number(kType, static_cast<uint64_t>(type))
                               .bytes());
    }
  }

  void check_length(std::string_view key, size_t length) const {
    if (length == tokens_.size()) return;
    metadata_.fail(
        key, std::to_string(length) + " entries for " + std::to_string(tokens_.size()) + " tokens");
  }

  std::string_view token(std::string_view key, int64_t otherwise) const {
    const auto last = static_cast<int64_t>(tokens_.size()) - 1;
    const int64_t id = metadata_.optional_integer(key, {0, last}).value_or(otherwise);
    if (id > last) metadata_.fail(key, "missing");
    return tokens_[static_cast<size_t>(id)];
  }

  bool flag(std::string_view key, bool otherwise) const {
    return metadata_.optional_boolean(key).value_or(otherwise);
  }

  WireWriter trainer() const {
    WireWriter trainer;
    trainer.number(kModelType, kBytePairEncoding).number(kByteFallback, 1);
    trainer.text(kUnknownPiece, unknown_);
    // What is no control token is no bos to the library; left out, it would be "<s>".
    const bool has_bos = flag("tokenizer.ggml.add_bos_token", true);
    trainer.text(kBosPiece, has_bos ? token("tokenizer.ggml.bos_token_id", 1) : unknown_);
    trainer.text(kEosPiece, token("tokenizer.ggml.eos_token_id", 2));
    return trainer;
  }

  WireWriter normalizer() const {
    WireWriter normalizer;
    const std::string_view charsmap = metadata_.bytes("tokenizer.ggml.precompiled_charsmap");
    if (!charsmap.empty() && !is_sound_charsmap(charsmap)) {
      metadata_.fail("tokenizer.ggml.precompiled_charsmap",
                     std::to_string(charsmap.size()) + " bytes that are no sound table");
    }
    normalizer.text(kName, charsmap.empty() ? "identity" : "user_defined");
    normalizer.text(kCharsmap, charsmap);
    normalizer.number(kAddDummyPrefix, flag("tokenizer.ggml.add_space_prefix", true));
    normalizer.number(kRemoveExtraWhitespaces,
                      flag("tokenizer.ggml.remove_extra_whitespaces", false));
    normalizer.number(kEscapeWhitespaces, 1);
    return normalizer;
  }

  const GgufMetadata& metadata_;
  std::vector<std::string_view> tokens_;
  std::string_view unknown_;
  WireWriter model_;
};

/// Of one unit of Darts' double array: where its children and its value lie, relative by xor.
uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
bool is_value(uint32_t unit) { return unit >> 31 != 0; }

}  // namespace

std::string sentencepiece_model_of(const GgufMetadata& metadata) {
  return ModelWriter(metadata).write();
}

bool is_sound_charsmap(std::string_view charsmap) {
  constexpr size_t kUnitBytes = 4;
  const auto bytes = std::as_bytes(std::span(charsmap));
  if (bytes.size() < kUnitBytes) return false;
  const uint64_t trie_bytes = little_endian(bytes.first(kUnitBytes));
  if (trie_bytes == 0 || trie_bytes % kUnitBytes != 0 || trie_bytes >= bytes.size() - kUnitBytes ||
      charsmap.back() != '\0') {
    return false;
  }
  const auto trie = bytes.subspan(kUnitBytes, trie_bytes);
  const uint64_t num_units = trie_bytes / kUnitBytes;
  const uint64_t num_text_bytes = bytes.size() - kUnitBytes - trie_bytes;
  const auto unit_at = [&](uint64_t index) {
    return static_cast<uint32_t>(little_endian(trie.subspan(index * kUnitBytes, kUnitBytes)));
  };
  for (uint64_t index = 0; index < num_units; ++index) {
    const uint32_t unit = unit_at(index);
    if (is_value(unit)) {
      if ((unit & 0x7FFFFFFFu) >= num_text_bytes) return false;
      continue;
    }
    // Any byte may be looked for among the children, which lie in one block of 256.
    const uint64_t children = index ^ unit_offset(unit);
    if ((children | 255) >= num_units) return false;
    // Where a unit has a value, the library takes whatever stands there.
    const bool has_value = (unit >> 8 & 1) != 0;
    if (has_value && (unit_at(children) & 0x7FFFFFFFu) >= num_text_bytes) return false;
  }
  return true;
}

}  // namespace quire
