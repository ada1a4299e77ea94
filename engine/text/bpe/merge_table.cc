#include "engine/text/bpe/merge_table.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

namespace quire {
namespace {

constexpr size_t kPrefetchDistance = 12;  // positions; enough to hide one miss

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t scramble(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ (key >> 32);
}

uint64_t queue_key(uint32_t rank, int32_t pos) {
  return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(pos);
}

}  // namespace

MergeTable::MergeTable(std::vector<Merge> merges) : merges_(std::move(merges)) {
  size_t num_slots = 16;
  while (num_slots < merges_.size() * 2) num_slots *= 2;
  slots_.resize(num_slots);
  for (size_t rank = 0; rank < merges_.size(); ++rank) {
    const Merge& merge = merges_[rank];
    const uint64_t key = pair_key(merge.left, merge.right);
    size_t slot = scramble(key) & (num_slots - 1);
    while (slots_[slot].rank != kNoRank && slots_[slot].pair != key) {
      slot = (slot + 1) & (num_slots - 1);
    }
    slots_[slot] = {key, static_cast<uint32_t>(rank), merge.result};
  }
}

const MergeTable::Slot& MergeTable::find(TokenId left, TokenId right) const {
  const uint64_t key = pair_key(left, right);
  size_t slot = scramble(key) & (slots_.size() - 1);
  while (slots_[slot].rank != kNoRank && slots_[slot].pair != key) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slots_[slot];
}

void MergeTable::scan(std::vector<TokenId>& ids, size_t begin) const {
  std::array<uint64_t, kMaxScannedSymbols> pairs;  // of each symbol and the next: rank, result
  TokenId* const symbols = ids.data() + begin;
  size_t num_symbols = ids.size() - begin;
  const auto look_up = [&](size_t i) {
    const Slot& slot = find(symbols[i], symbols[i + 1]);
    pairs[i] = static_cast<uint64_t>(slot.rank) << 32 | static_cast<uint32_t>(slot.result);
  };
  for (size_t i = 0; i + 1 < num_symbols; ++i) look_up(i);
  while (num_symbols > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < num_symbols; ++i) {
      if (pairs[i] >> 32 < pairs[best] >> 32) best = i;
    }
    if (pairs[best] >> 32 == kNoRank) break;
    symbols[best] = static_cast<TokenId>(pairs[best] & UINT32_MAX);
    std::copy(symbols + best + 2, symbols + num_symbols, symbols + best + 1);
    std::copy(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1,
              pairs.begin() + static_cast<std::ptrdiff_t>(num_symbols) - 1,
              pairs.begin() + static_cast<std::ptrdiff_t>(best));
    --num_symbols;
    if (best > 0) look_up(best - 1);
    if (best + 1 < num_symbols) look_up(best);
  }
  ids.resize(begin + num_symbols);
}

/// One piece that is too long to be scanned.
class MergeTable::Sweep {
 public:
  Sweep(const MergeTable& table, Scratch& scratch) : table_(table), scratch_(scratch) {}

  void run(std::vector<TokenId>& ids, size_t begin) {
    std::vector<Scratch::Symbol>& symbols = scratch_.symbols;
    const size_t num_symbols = ids.size() - begin;
    symbols.resize(num_symbols);
    for (size_t i = 0; i < num_symbols; ++i) {
      const auto pos = static_cast<int32_t>(i);
      symbols[i] = {ids[begin + i], pos - 1, pos + 1};
    }
    symbols.back().next = -1;
    has_lists_ = num_symbols >= kMinListedSymbols;
    if (has_lists_) scratch_.by_rank.resize(table_.merges_.size());
    for (size_t i = 0; i < num_symbols; ++i) push(static_cast<int32_t>(i));
    if (has_lists_) walk_lists();
    empty_heap_below(UINT64_MAX);
    ids.resize(begin);
    for (const Scratch::Symbol& symbol : symbols) {
      if (symbol.id >= 0) ids.push_back(symbol.id);
    }
  }

 private:
  void push(int32_t pos) {
    const Scratch::Symbol& left = scratch_.symbols[static_cast<size_t>(pos)];
    if (left.next < 0) return;
    const TokenId right = scratch_.symbols[static_cast<size_t>(left.next)].id;
    const uint32_t rank = table_.find(left.id, right).rank;
    if (rank == kNoRank) return;
    ++scratch_.num_queued;
    if (has_lists_ && rank >= first_unopened_) {
      scratch_.by_rank[rank].push_back(pos);
    } else {
      scratch_.heap.push_back(queue_key(rank, pos));
      std::push_heap(scratch_.heap.begin(), scratch_.heap.end(), std::greater<>());
    }
  }

  void walk_lists() {
    for (uint32_t rank = 0; rank < scratch_.by_rank.size(); ++rank) {
      first_unopened_ = rank + 1;
      walk(rank, std::exchange(scratch_.by_rank[rank], {}));
    }
  }

  void walk(uint32_t rank, std::vector<int32_t> list) {
    if (!std::is_sorted(list.begin(), list.end())) std::sort(list.begin(), list.end());
    for (size_t i = 0; i < list.size(); ++i) {
      if (i + kPrefetchDistance < list.size()) {
        __builtin_prefetch(&scratch_.symbols[static_cast<size_t>(list[i + kPrefetchDistance])]);
      }
      empty_heap_below(queue_key(rank, list[i]));
      merge(rank, list[i]);
    }
  }

  void empty_heap_below(uint64_t key) {
    std::vector<uint64_t>& heap = scratch_.heap;
    while (!heap.empty() && heap.front() < key) {
      const uint64_t first = heap.front();
      std::pop_heap(heap.begin(), heap.end(), std::greater<>());
      heap.pop_back();
      merge(static_cast<uint32_t>(first >> 32), static_cast<int32_t>(first & UINT32_MAX));
    }
  }

  void merge(uint32_t rank, int32_t pos) {
    const Merge& merge = table_.merges_[rank];
    Scratch::Symbol& left = scratch_.symbols[static_cast<size_t>(pos)];
    // Either may have been merged with another neighbour since the pair was queued.
    if (left.id != merge.left || left.next < 0) return;
    Scratch::Symbol& right = scratch_.symbols[static_cast<size_t>(left.next)];
    if (right.id != merge.right) return;
    left.id = merge.result;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) scratch_.symbols[static_cast<size_t>(left.next)].previous = pos;
    if (left.previous >= 0) push(left.previous);
    push(pos);
  }

  const MergeTable& table_;
  Scratch& scratch_;
  bool has_lists_ = false;
  uint32_t first_unopened_ = 0;  // lists of this rank and above have not been opened yet
};

void MergeTable::apply(std::vector<TokenId>& ids, size_t begin, Scratch& scratch) const {
  const size_t num_symbols = ids.size() - begin;
  if (num_symbols <= kMaxScannedSymbols) {
    if (num_symbols > 1) scan(ids, begin);
  } else {
    Sweep(*this, scratch).run(ids, begin);
  }
}

}  // namespace quire
