#include "engine/kv_cache/prefix_cache.h"

#include <xxhash.h>

#include <algorithm>

#include "kernels/check.h"

namespace quire {

uint64_t hash_block(uint64_t parent_hash, std::span<const TokenId> tokens) {
  return XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), parent_hash);
}

std::optional<BlockId> PrefixCache::find(const Key& key) const {
  const auto found = entries_.find(key.hash);
  if (found == entries_.end()) return std::nullopt;
  const Entry& entry = found->second;
  const bool same_parent = key.root != nullptr
                               ? entry.is_first && entry.root == *key.root
                               : !entry.is_first && entry.parent_hash == key.parent_hash;
  if (!same_parent || !std::ranges::equal(entry.tokens, key.tokens)) return std::nullopt;
  return entry.block;
}

bool PrefixCache::insert(const Key& key, BlockId block) {
  if (entries_.contains(key.hash)) return false;
  const bool is_first = key.root != nullptr;
  const auto parent = is_first ? entries_.end() : entries_.find(key.parent_hash);
  QUIRE_CHECK(is_first || parent != entries_.end()) << "the parent is not published";
  QUIRE_CHECK(!contains(block)) << "block " << to_index(block) << " is published twice";
  if (!is_first) {
    const bool was_evictable = is_evictable(parent->second);
    ++parent->second.num_children;
    update_evictability(parent->first, parent->second, was_evictable);
  }
  entries_.emplace(key.hash, Entry{.block = block,
                                   .parent_hash = is_first ? 0 : key.parent_hash,
                                   .is_first = is_first,
                                   .root = is_first ? *key.root : std::string(),
                                   .tokens = {key.tokens.begin(), key.tokens.end()},
                                   .last_use = ++use_clock_});
  hash_of_block_.emplace(to_index(block), key.hash);
  return true;
}

void PrefixCache::set_evictable(BlockId block, bool evictable) {
  const auto found = hash_of_block_.find(to_index(block));
  QUIRE_CHECK(found != hash_of_block_.end()) << "block " << to_index(block) << " is not published";
  Entry& entry = entries_.at(found->second);
  if (entry.unreferenced == evictable) return;
  const bool was_evictable = is_evictable(entry);
  if (was_evictable) evictable_.erase({entry.last_use, found->second});
  entry.unreferenced = evictable;
  entry.last_use = ++use_clock_;
  num_unreferenced_ += evictable ? 1 : -1;
  if (is_evictable(entry)) evictable_.insert({entry.last_use, found->second});
}

std::optional<BlockId> PrefixCache::evict() {
  if (evictable_.empty()) return std::nullopt;
  const uint64_t hash = evictable_.begin()->second;
  evictable_.erase(evictable_.begin());
  const auto found = entries_.find(hash);
  const Entry entry = std::move(found->second);
  entries_.erase(found);
  hash_of_block_.erase(to_index(entry.block));
  --num_unreferenced_;
  if (!entry.is_first) {
    Entry& parent = entries_.at(entry.parent_hash);
    const bool was_evictable = is_evictable(parent);
    --parent.num_children;
    update_evictability(entry.parent_hash, parent, was_evictable);
  }
  return entry.block;
}

void PrefixCache::update_evictability(uint64_t hash, Entry& entry, bool was_evictable) {
  if (was_evictable == is_evictable(entry)) return;
  if (was_evictable) {
    evictable_.erase({entry.last_use, hash});
  } else {
    evictable_.insert({entry.last_use, hash});
  }
}

void PrefixCache::check_integrity() const {
  std::unordered_map<uint64_t, int32_t> num_children;
  int32_t num_unreferenced = 0, num_evictable = 0;
  for (const auto& [hash, entry] : entries_) {
    if (!entry.is_first) {
      QUIRE_CHECK(entries_.contains(entry.parent_hash)) << "an entry without its parent";
      ++num_children[entry.parent_hash];
      QUIRE_CHECK(entry.unreferenced || !entries_.at(entry.parent_hash).unreferenced)
          << "a referenced block behind an unreferenced parent";
    }
    QUIRE_CHECK(hash_of_block_.at(to_index(entry.block)) == hash) << "block and hash disagree";
    num_unreferenced += entry.unreferenced;
    num_evictable += is_evictable(entry);
    QUIRE_CHECK(is_evictable(entry) == evictable_.contains({entry.last_use, hash}))
        << "block " << to_index(entry.block) << " and the eviction order disagree";
  }
  for (const auto& [hash, entry] : entries_) {
    QUIRE_CHECK(num_children[hash] == entry.num_children)
        << num_children[hash] << " children, counted " << entry.num_children;
  }
  QUIRE_CHECK(hash_of_block_.size() == entries_.size()) << "block index";
  QUIRE_CHECK(num_unreferenced == num_unreferenced_) << "unreferenced count";
  QUIRE_CHECK(static_cast<size_t>(num_evictable) == evictable_.size()) << "eviction order size";
}

}  // namespace quire
