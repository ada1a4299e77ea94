#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// The merges of a byte pair encoding, by rank: of all pairs of neighbours in a piece, the one with
/// the lowest rank becomes one token, the leftmost of equals, until no pair is in the table.
/// Immutable, thread-safe.
///
/// The order is exact for any table. Three loops share the work: a scan for pieces of a few
/// symbols; a heap; and for long pieces one list of positions per rank, each walked from left to
/// right (a heap of millions misses the cache at every level). Pairs that appear only after their
/// rank's list was opened go to the heap beside the lists. In the last two, n symbols take at most
/// 3 n queue entries: one for every symbol, two for every merge.
class MergeTable {
 public:
  struct Merge {
    TokenId left;
    TokenId right;
    TokenId result;
  };

  static constexpr size_t kMaxScannedSymbols = 32;
  static constexpr size_t kMinListedSymbols = 1 << 14;

  /// Buffers that calls use again; one per thread.
  struct Scratch {
    struct Symbol {
      TokenId id;  // -1: was merged into the one before
      int32_t previous;
      int32_t next;
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;                 // rank << 32 | position of the pair's left symbol
    std::vector<std::vector<int32_t>> by_rank;  // positions; all empty between calls
    uint64_t num_queued = 0;                    // entries of all calls so far
  };

  /// By rank. A pair that stands twice has its last rank, as in Hugging Face's library.
  explicit MergeTable(std::vector<Merge> merges);

  /// Merges the symbols from `begin` to the end of `ids`. REQUIRES: fewer than 2^31 of them.
  void apply(std::vector<TokenId>& ids, size_t begin, Scratch& scratch) const;

 private:
  class Sweep;
  struct Slot {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = kNoRank;
    TokenId result = -1;
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;

  const Slot& find(TokenId left, TokenId right) const;
  void scan(std::vector<TokenId>& ids, size_t begin) const;

  std::vector<Merge> merges_;
  std::vector<Slot> slots_;  // open addressing, a power of two, never full
};

}  // namespace quire
