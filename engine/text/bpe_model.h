#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// Byte pair encoding of one piece of text: its characters (or bytes) as tokens, then the pair that
/// stands first in the list of merges becomes one token, the leftmost of equals first, until no
/// pair is in the list. O(n log n) in the piece's bytes. Immutable, thread-safe.
class BpeModel {
 public:
  struct Spec {
    /// What text can become; in byte-level models by their bytes, not as they are spelled.
    std::unordered_map<std::string, TokenId> vocab;
    std::vector<std::pair<std::string, std::string>> merges;
    /// Symbols are bytes. Otherwise they are characters.
    bool is_byte_level = false;
    /// A piece that is in the vocabulary is that token, whatever the merges make of it.
    bool ignores_merges = false;
    /// Characters that are in no vocabulary become tokens "<0x0A>".
    bool has_byte_fallback = false;
    /// Runs of unknown characters make one `unknown`.
    bool fuses_unknown = false;
    /// Without it unknown characters vanish.
    std::optional<TokenId> unknown;
  };

  /// Buffers that calls use again; one per thread.
  struct Scratch {
    struct Symbol {
      TokenId id;  // -1: was merged into the one before
      int32_t previous;
      int32_t next;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;  // rank << 32 | position
  };

  /// Throws LoadError, beginning with `where`, if a merge names what is not in the vocabulary, or a
  /// byte-level vocabulary lacks a byte.
  BpeModel(Spec spec, const std::string& where);

  /// Appends the ids. REQUIRES: piece is not empty, valid UTF-8 unless the model is byte-level, and
  /// shorter than 2 GiB.
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  struct Merge {
    TokenId left;
    TokenId right;
    TokenId result;
  };

  void load_merges(const std::string& where);
  /// Rank of the pair, or kNoRank.
  uint32_t rank_of(TokenId left, TokenId right) const;
  void append_symbol(Scratch& scratch, TokenId id) const;
  void append_unknown(std::string_view character, Scratch& scratch) const;
  void queue_pair(Scratch& scratch, int32_t pos) const;
  void merge(Scratch& scratch) const;

  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct RankSlot {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = kNoRank;
  };

  Spec spec_;
  std::array<TokenId, 256> byte_ids_;  // byte-level: of the byte; otherwise of "<0x0A>", or -1
  std::vector<Merge> merges_;          // by rank
  std::vector<RankSlot> ranks_;        // open addressing, a power of two
};

}  // namespace quire
