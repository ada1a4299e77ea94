#include "engine/text/bpe_model.h"

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "engine/text/utf8.h"
#include "models/model_config.h"

namespace quire {
namespace {

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t scramble(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ (key >> 32);
}

/// A piece in a message: it may be anything, and long.
std::string quoted(const std::string& piece) {
  constexpr size_t kMaxQuotedBytes = 40;
  return "'" + replace_invalid_utf8(std::string_view(piece).substr(0, kMaxQuotedBytes)) + "'";
}

}  // namespace

BpeModel::BpeModel(Spec spec, const std::string& where) : spec_(std::move(spec)) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string name = spec_.is_byte_level
                                 ? std::string(1, static_cast<char>(byte))
                                 : std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">";
    const auto found = spec_.vocab.find(name);
    byte_ids_[byte] = found == spec_.vocab.end() ? -1 : found->second;
    if (spec_.is_byte_level && byte_ids_[byte] < 0) {
      throw LoadError(where + ": the byte-level vocabulary lacks byte " + std::to_string(byte));
    }
  }
  load_merges(where);
}

void BpeModel::load_merges(const std::string& where) {
  size_t num_slots = 16;
  while (num_slots < spec_.merges.size() * 2) num_slots *= 2;
  ranks_.resize(num_slots);
  merges_.reserve(spec_.merges.size());
  for (const auto& [left, right] : spec_.merges) {
    const std::array<std::string, 3> names = {left, right, left + right};
    std::array<TokenId, 3> ids;
    for (size_t i = 0; i < 3; ++i) {
      const auto found = spec_.vocab.find(names[i]);
      if (found == spec_.vocab.end()) {
        throw LoadError(where + ": merge " + std::to_string(merges_.size()) + " needs " +
                        quoted(names[i]) + ", which is no token that text can become");
      }
      ids[i] = found->second;
    }
    const uint64_t key = pair_key(ids[0], ids[1]);
    size_t slot = scramble(key) & (num_slots - 1);
    while (ranks_[slot].rank != kNoRank && ranks_[slot].pair != key) {
      slot = (slot + 1) & (num_slots - 1);
    }
    ranks_[slot] = {key, static_cast<uint32_t>(merges_.size())};
    merges_.push_back({ids[0], ids[1], ids[2]});
  }
  spec_.merges = {};
}

uint32_t BpeModel::rank_of(TokenId left, TokenId right) const {
  const uint64_t key = pair_key(left, right);
  size_t slot = scramble(key) & (ranks_.size() - 1);
  while (ranks_[slot].rank != kNoRank) {
    if (ranks_[slot].pair == key) return ranks_[slot].rank;
    slot = (slot + 1) & (ranks_.size() - 1);
  }
  return kNoRank;
}

void BpeModel::append_symbol(Scratch& scratch, TokenId id) const {
  const auto pos = static_cast<int32_t>(scratch.symbols.size());
  scratch.symbols.push_back({id, pos - 1, pos + 1});
}

void BpeModel::append_unknown(std::string_view character, Scratch& scratch) const {
  if (spec_.has_byte_fallback) {
    const auto has_id = [this](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; };
    if (std::all_of(character.begin(), character.end(), has_id)) {
      for (const char c : character) append_symbol(scratch, byte_ids_[static_cast<uint8_t>(c)]);
      return;
    }
  }
  if (!spec_.unknown) return;
  const bool follows_unknown =
      !scratch.symbols.empty() && scratch.symbols.back().id == *spec_.unknown;
  if (!spec_.fuses_unknown || !follows_unknown) append_symbol(scratch, *spec_.unknown);
}

void BpeModel::queue_pair(Scratch& scratch, int32_t pos) const {
  const Scratch::Symbol& left = scratch.symbols[static_cast<size_t>(pos)];
  if (left.next < 0) return;
  const uint32_t rank = rank_of(left.id, scratch.symbols[static_cast<size_t>(left.next)].id);
  if (rank == kNoRank) return;
  scratch.queue.push_back(static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(pos));
}

void BpeModel::merge(Scratch& scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<uint64_t>& queue = scratch.queue;
  queue.clear();
  for (size_t pos = 0; pos < symbols.size(); ++pos) queue_pair(scratch, static_cast<int32_t>(pos));
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto push = [&](int32_t pos) {
    const size_t before = queue.size();
    queue_pair(scratch, pos);
    if (queue.size() > before) std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const Merge& merge = merges_[queue.back() >> 32];
    const auto pos = static_cast<int32_t>(queue.back() & UINT32_MAX);
    queue.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(pos)];
    // Either may have been merged with another neighbour since the pair was queued.
    if (left.id != merge.left || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != merge.right) continue;
    left.id = merge.result;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = pos;
    if (left.previous >= 0) push(left.previous);
    push(pos);
  }
}

void BpeModel::encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (piece.size() > static_cast<size_t>(INT32_MAX)) throw std::length_error("tokenizer: piece");
  if (spec_.ignores_merges) {
    const auto found = spec_.vocab.find(std::string(piece));
    if (found != spec_.vocab.end()) return out.push_back(found->second);
  }
  scratch.symbols.clear();
  if (spec_.is_byte_level) {
    for (const char c : piece) append_symbol(scratch, byte_ids_[static_cast<unsigned char>(c)]);
  } else {
    while (!piece.empty()) {
      const std::string_view character = piece.substr(0, classify_utf8(piece).num_bytes);
      const auto found = spec_.vocab.find(std::string(character));
      if (found != spec_.vocab.end()) {
        append_symbol(scratch, found->second);
      } else {
        append_unknown(character, scratch);
      }
      piece.remove_prefix(character.size());
    }
  }
  if (scratch.symbols.empty()) return;
  scratch.symbols.back().next = -1;
  merge(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) out.push_back(symbol.id);
  }
}

}  // namespace quire
