#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// hash(parent hash, the block's tokens). Injected so that tests can make it collide.
using BlockHasher = std::function<uint64_t(uint64_t parent_hash, std::span<const TokenId> tokens)>;

/// XXH3, seeded with the parent's hash.
uint64_t hash_block(uint64_t parent_hash, std::span<const TokenId> tokens);

/// Finds sealed blocks by what they hold. Entries form a tree: a block's key is the hash of its
/// tokens chained to its parent's key, and the first block's parent is a root that names everything
/// else K and V depend on (cache salt, rope set, attention of the prefill).
///
/// A hash only finds a candidate; tokens and parent are compared before it counts as a hit. Because
/// a parent is never evicted before its children, that comparison holds for the whole chain, and no
/// collision can ever share a wrong block.
///
/// Knows nothing of references: the cache's owner says which blocks are unreferenced (evictable).
/// Engine thread only.
class PrefixCache {
 public:
  /// What a block's place in the tree is.
  struct Key {
    uint64_t hash = 0;
    uint64_t parent_hash = 0;           // ignored in a first block
    const std::string* root = nullptr;  // set in a first block, null in all others
    std::span<const TokenId> tokens;
  };

  /// The block that holds exactly this, or nullopt. Does not touch the eviction order.
  std::optional<BlockId> find(const Key& key) const;

  /// Publishes a sealed, referenced block. False when the hash is taken by something else (a
  /// collision): the block then stays private. REQUIRES: find(key) is empty; the parent is
  /// published.
  bool insert(const Key& key, BlockId block);

  bool contains(BlockId block) const { return hash_of_block_.contains(to_index(block)); }

  /// The last reference to a published block went, or the first came (back).
  void set_evictable(BlockId block, bool evictable);

  /// Removes the least recently used unreferenced leaf; nullopt when there is none.
  std::optional<BlockId> evict();

  int32_t num_entries() const { return static_cast<int32_t>(entries_.size()); }
  int32_t num_unreferenced() const { return num_unreferenced_; }

  /// Recounts children and the eviction order; throws ContractError.
  void check_integrity() const;

 private:
  struct Entry {
    BlockId block = BlockId::kNone;
    uint64_t parent_hash = 0;
    bool is_first = false;
    std::string root;  // of a first block
    std::vector<TokenId> tokens;
    int32_t num_children = 0;
    bool unreferenced = false;
    uint64_t last_use = 0;
  };
  using EvictionKey = std::pair<uint64_t, uint64_t>;  // last use, hash

  void update_evictability(uint64_t hash, Entry& entry, bool was_evictable);
  static bool is_evictable(const Entry& entry) {
    return entry.unreferenced && entry.num_children == 0;
  }

  std::unordered_map<uint64_t, Entry> entries_;
  std::unordered_map<int32_t, uint64_t> hash_of_block_;
  std::set<EvictionKey> evictable_;  // unreferenced leaves, least recently used first
  int32_t num_unreferenced_ = 0;
  uint64_t use_clock_ = 0;
};

}  // namespace quire
