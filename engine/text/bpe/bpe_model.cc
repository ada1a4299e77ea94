#include "engine/text/bpe/bpe_model.h"

#include <algorithm>
#include <stdexcept>

#include "engine/text/utf8.h"
#include "models/model_config.h"

namespace quire {
namespace {

/// A piece in a message: it may be anything, and long.
std::string quoted(const std::string& piece) {
  constexpr size_t kMaxQuotedBytes = 40;
  return "'" + replace_invalid_utf8(std::string_view(piece).substr(0, kMaxQuotedBytes)) + "'";
}

}  // namespace

BpeModel::BpeModel(Spec spec, const std::string& where)
    : spec_(std::move(spec)),
      byte_ids_(ids_of_bytes(spec_, where)),
      merges_(table_of(spec_, where)) {
  spec_.merges = {};
}

std::array<TokenId, 256> BpeModel::ids_of_bytes(const Spec& spec, const std::string& where) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::array<TokenId, 256> ids;
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string name = spec.is_byte_level
                                 ? std::string(1, static_cast<char>(byte))
                                 : std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">";
    const auto found = spec.vocab.find(name);
    ids[byte] = found == spec.vocab.end() ? -1 : found->second;
    if (spec.is_byte_level && ids[byte] < 0) {
      throw LoadError(where + ": the byte-level vocabulary lacks byte " + std::to_string(byte));
    }
  }
  return ids;
}

MergeTable BpeModel::table_of(const Spec& spec, const std::string& where) {
  std::vector<MergeTable::Merge> merges;
  merges.reserve(spec.merges.size());
  const auto id_of = [&](const std::string& name) {
    const auto found = spec.vocab.find(name);
    if (found == spec.vocab.end()) {
      throw LoadError(where + ": merge " + std::to_string(merges.size()) + " needs " +
                      quoted(name) + ", which is no token that text can become");
    }
    return found->second;
  };
  for (const auto& [left, right] : spec.merges) {
    merges.push_back({id_of(left), id_of(right), id_of(left + right)});
  }
  return MergeTable(std::move(merges));
}

void BpeModel::append_characters(std::string_view piece, std::vector<TokenId>& out) const {
  const size_t begin = out.size();
  while (!piece.empty()) {
    const std::string_view character = piece.substr(0, classify_utf8(piece).num_bytes);
    const auto found = spec_.vocab.find(character);
    if (found != spec_.vocab.end()) {
      out.push_back(found->second);
    } else {
      append_unknown(character, begin, out);
    }
    piece.remove_prefix(character.size());
  }
}

void BpeModel::append_unknown(std::string_view character, size_t begin,
                              std::vector<TokenId>& out) const {
  if (spec_.has_byte_fallback) {
    const auto has_id = [this](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; };
    if (std::all_of(character.begin(), character.end(), has_id)) {
      for (const char c : character) out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      return;
    }
  }
  if (!spec_.unknown) return;
  const bool follows_unknown = out.size() > begin && out.back() == *spec_.unknown;
  if (!spec_.fuses_unknown || !follows_unknown) out.push_back(*spec_.unknown);
}

void BpeModel::encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (piece.size() > static_cast<size_t>(INT32_MAX)) throw std::length_error("tokenizer: piece");
  if (spec_.ignores_merges) {
    const auto found = spec_.vocab.find(piece);
    if (found != spec_.vocab.end()) return out.push_back(found->second);
  }
  const size_t begin = out.size();
  if (spec_.is_byte_level) {
    for (const char c : piece) out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  } else {
    append_characters(piece, out);
  }
  merges_.apply(out, begin, scratch);
}

}  // namespace quire
