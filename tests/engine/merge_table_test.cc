#include "engine/text/bpe/merge_table.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <vector>

namespace quire {
namespace {

using Ids = std::vector<TokenId>;
using Random = std::mt19937;

constexpr TokenId kNumSymbols = 4;  // ids that text starts as

/// Merges of random pairs. Their order is random too, so that a merge may stand before the one that
/// makes its left or right token.
std::vector<MergeTable::Merge> random_merges(Random& random, size_t count) {
  std::vector<MergeTable::Merge> merges;
  std::map<std::pair<TokenId, TokenId>, bool> seen;
  TokenId next = kNumSymbols;
  while (merges.size() < count) {
    const auto left = static_cast<TokenId>(random() % static_cast<uint32_t>(next));
    const auto right = static_cast<TokenId>(random() % static_cast<uint32_t>(next));
    if (seen[{left, right}]) continue;
    seen[{left, right}] = true;
    merges.push_back({left, right, next++});
  }
  std::shuffle(merges.begin(), merges.end(), random);
  return merges;
}

/// The definition: of all pairs of neighbours the first in the list, of equals the leftmost.
Ids merge_slowly(const std::vector<MergeTable::Merge>& merges, Ids ids) {
  std::map<std::pair<TokenId, TokenId>, size_t> ranks;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    ranks[{merges[rank].left, merges[rank].right}] = rank;
  }
  while (true) {
    size_t best_rank = merges.size();
    size_t best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best_rank) {
        best_rank = found->second;
        best = i;
      }
    }
    if (best_rank == merges.size()) return ids;
    ids[best] = merges[best_rank].result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

Ids random_symbols(Random& random, size_t count) {
  Ids ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % kNumSymbols);
  return ids;
}

}  // namespace

TEST_CASE("Merges are applied in their order, from left to right, in pieces of any length") {
  Random random(3);
  for (int round = 0; round < 60; ++round) {
    const std::vector<MergeTable::Merge> merges = random_merges(random, 1 + random() % 60);
    const MergeTable table(merges);
    MergeTable::Scratch scratch;
    for (const size_t length : {1, 2, 3, 31, 32, 33, 34, 200}) {
      const Ids symbols = random_symbols(random, length);
      Ids ids = {77};  // what stood there before stays
      ids.insert(ids.end(), symbols.begin(), symbols.end());
      table.apply(ids, 1, scratch);
      Ids expected = merge_slowly(merges, symbols);
      expected.insert(expected.begin(), 77);
      CHECK(ids == expected);
    }
  }
}

TEST_CASE("A piece that takes lists has the ids of its parts, cut where no pair is in the table") {
  Random random(5);
  constexpr TokenId kWall = 1'000'000;  // merges with nothing
  for (int round = 0; round < 10; ++round) {
    const std::vector<MergeTable::Merge> merges = random_merges(random, 40);
    const MergeTable table(merges);
    MergeTable::Scratch scratch;
    Ids ids;
    Ids expected;
    while (ids.size() < 2 * MergeTable::kMinListedSymbols) {
      const Ids symbols = random_symbols(random, 1 + random() % 300);
      ids.insert(ids.end(), symbols.begin(), symbols.end());
      const Ids merged = merge_slowly(merges, symbols);
      expected.insert(expected.end(), merged.begin(), merged.end());
      ids.push_back(kWall);
      expected.push_back(kWall);
    }
    const size_t num_symbols = ids.size();
    table.apply(ids, 0, scratch);
    CHECK(ids == expected);
    CHECK(scratch.num_queued <= 3 * num_symbols);
  }
}

}  // namespace quire
