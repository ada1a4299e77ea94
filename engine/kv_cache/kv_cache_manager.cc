#include "engine/kv_cache/kv_cache_manager.h"

#include <algorithm>
#include <ranges>
#include <string>
#include <vector>

#include "engine/scheduler/sequence.h"
#include "kernels/check.h"

namespace quire {
namespace {

/// Everything beside tokens that the K and V of a prompt depend on.
std::string root_of(const Sequence& sequence) {
  const bool is_moba = sequence.prefill_attention.mode == AttentionMode::kMoba;
  return (is_moba ? "moba " + std::to_string(sequence.prefill_attention.top_k) : "full") +
         " rope " + std::to_string(sequence.rope_set) + ' ' + sequence.request.cache_salt;
}

uint64_t root_hash(const std::string& root) {
  std::vector<TokenId> characters(root.begin(), root.end());
  return hash_block(0, characters);
}

}  // namespace

KvCacheManager::KvCacheManager(int32_t num_blocks, int32_t block_size, bool enable_prefix_cache,
                               EngineMetrics& metrics, BlockHasher hasher)
    : block_size_(block_size),
      enable_prefix_cache_(enable_prefix_cache),
      metrics_(metrics),
      hasher_(std::move(hasher)),
      pool_(num_blocks) {
  QUIRE_CHECK(block_size >= 1) << "block_size=" << block_size;
  update_gauges();
}

int32_t KvCacheManager::match_prefix(Sequence& sequence) {
  QUIRE_CHECK(sequence.block_table.block_ids.empty() && sequence.num_computed_tokens == 0)
      << "the sequence holds blocks already";
  const std::string root = root_of(sequence);
  const int32_t max_blocks = max_prefix_blocks(sequence);
  int32_t num_found = 0;
  for (; num_found < max_blocks; ++num_found) {
    grow_hashes(sequence, num_found + 1);
    const std::optional<BlockId> block = cache_.find(key_of(sequence, num_found, root));
    if (!block) break;
    take_reference(*block);
    sequence.block_table.block_ids.push_back(*block);
  }
  sequence.num_computed_tokens = num_found * block_size_;
  sequence.num_published_blocks = num_found;
  update_gauges();
  return sequence.num_computed_tokens;
}

CachedPrefix KvCacheManager::cached_prefix(Sequence& waiting) const {
  const int32_t max_blocks = max_prefix_blocks(waiting);
  if (max_blocks == 0) return {};
  grow_hashes(waiting, max_blocks);
  const std::string root = root_of(waiting);
  // Both runs start at block 0: a parent outlives its children in the cache, and who references a
  // published block references all before it.
  const auto blocks = std::views::iota(0, max_blocks);
  const auto first_unpublished = std::ranges::partition_point(
      blocks, [&](int32_t i) { return cache_.find(key_of(waiting, i, root)).has_value(); });
  const auto first_unreferenced =
      std::ranges::partition_point(blocks.begin(), first_unpublished, [&](int32_t i) {
        const std::optional<BlockId> block = cache_.find(key_of(waiting, i, root));
        return block && pool_.num_references(*block) > 0;
      });
  return {.num_blocks = static_cast<int32_t>(first_unpublished - blocks.begin()),
          .num_referenced = static_cast<int32_t>(first_unreferenced - blocks.begin())};
}

bool KvCacheManager::has_room_for(const Sequence& waiting, const CachedPrefix& cached,
                                  int32_t num_spare_blocks) const {
  // What it takes out of the cache cannot be evicted for the rest any more.
  const int32_t num_taken = num_blocks_for(waiting.num_tokens()) - cached.num_referenced;
  return num_taken + num_spare_blocks <= num_allocatable();
}

bool KvCacheManager::is_computing_block(Sequence& running, Sequence& waiting,
                                        int32_t block_idx) const {
  const int32_t end = (block_idx + 1) * block_size_;
  const bool will_publish =
      running.num_computed_tokens < end && end <= running.num_shareable_tokens() &&
      running.num_published_blocks == running.num_computed_tokens / block_size_;
  if (!will_publish || block_idx >= max_prefix_blocks(waiting)) return false;
  grow_hashes(running, block_idx + 1);
  grow_hashes(waiting, block_idx + 1);
  const auto i = static_cast<size_t>(block_idx);
  return running.block_hashes[i] == waiting.block_hashes[i];
}

bool KvCacheManager::reserve(Sequence& sequence, int32_t num_new_tokens) {
  std::vector<BlockId>& table = sequence.block_table.block_ids;
  const int64_t num_tokens = int64_t{sequence.num_computed_tokens} + num_new_tokens;
  const int32_t num_missing = num_blocks_for(num_tokens) - sequence.block_table.num_blocks();
  if (num_missing > num_allocatable()) return false;
  for (int32_t i = 0; i < num_missing; ++i) table.push_back(allocate_or_evict());
  if (num_missing > 0) update_gauges();
  return true;
}

void KvCacheManager::commit(Sequence& sequence, int32_t num_new_tokens) {
  const int32_t first_full = sequence.num_computed_tokens / block_size_;
  sequence.num_computed_tokens += num_new_tokens;
  QUIRE_CHECK(sequence.num_computed_tokens <= sequence.num_tokens() &&
              sequence.num_computed_tokens <= sequence.block_table.num_blocks() * block_size_)
      << "computed " << sequence.num_computed_tokens << " of " << sequence.num_tokens()
      << " tokens in " << sequence.block_table.num_blocks() << " blocks";
  const int32_t end_full = sequence.num_computed_tokens / block_size_;
  metrics_.blocks_sealed.add(static_cast<uint64_t>(end_full - first_full));
  for (int32_t i = first_full; i < end_full; ++i) {
    if (may_publish(sequence, i)) publish(sequence, i);
  }
  if (end_full > first_full) update_gauges();
}

void KvCacheManager::release(Sequence& sequence) noexcept {
  std::vector<BlockId>& table = sequence.block_table.block_ids;
  // From the end, so that of one sequence's blocks the last ones are the least recently used.
  for (auto block = table.rbegin(); block != table.rend(); ++block) drop_reference(*block);
  table.clear();
  sequence.num_computed_tokens = 0;
  sequence.num_published_blocks = 0;
  update_gauges();
}

void KvCacheManager::grow_hashes(Sequence& sequence, int32_t num_blocks) const {
  std::vector<uint64_t>& hashes = sequence.block_hashes;
  const auto block_size = static_cast<size_t>(block_size_);
  while (hashes.size() < static_cast<size_t>(num_blocks)) {
    const uint64_t parent = hashes.empty() ? root_hash(root_of(sequence)) : hashes.back();
    const size_t begin = hashes.size() * block_size;
    hashes.push_back(
        hasher_(parent, std::span<const TokenId>(sequence.tokens).subspan(begin, block_size)));
  }
}

PrefixCache::Key KvCacheManager::key_of(const Sequence& sequence, int32_t block_idx,
                                        const std::string& root) const {
  const auto i = static_cast<size_t>(block_idx), block_size = static_cast<size_t>(block_size_);
  return {.hash = sequence.block_hashes[i],
          .parent_hash = i == 0 ? 0 : sequence.block_hashes[i - 1],
          .root = i == 0 ? &root : nullptr,
          .tokens = std::span<const TokenId>(sequence.tokens).subspan(i * block_size, block_size)};
}

/// How many of its blocks a sequence may take from the cache. Its last token is always computed,
/// for the logits behind it.
int32_t KvCacheManager::max_prefix_blocks(const Sequence& sequence) const {
  if (!enable_prefix_cache_) return 0;
  return std::min(sequence.num_tokens() - 1, sequence.num_shareable_tokens()) / block_size_;
}

bool KvCacheManager::may_publish(const Sequence& sequence, int32_t block_idx) const {
  // A chain is published from its start without a gap, else its tail could outlive its head.
  return enable_prefix_cache_ && sequence.num_published_blocks == block_idx &&
         (block_idx + 1) * block_size_ <= sequence.num_shareable_tokens();
}

void KvCacheManager::publish(Sequence& sequence, int32_t block_idx) {
  grow_hashes(sequence, block_idx + 1);
  const std::string root = root_of(sequence);
  const PrefixCache::Key key = key_of(sequence, block_idx, root);
  BlockId& own = sequence.block_table.block_ids[static_cast<size_t>(block_idx)];
  if (const std::optional<BlockId> equal = cache_.find(key)) {
    take_reference(*equal);
    drop_reference(own);
    own = *equal;
  } else if (!cache_.insert(key, own)) {
    return;
  }
  sequence.num_published_blocks = block_idx + 1;
}

void KvCacheManager::take_reference(BlockId id) {
  if (pool_.num_references(id) == 0) cache_.set_evictable(id, false);
  pool_.retain(id);
}

void KvCacheManager::drop_reference(BlockId id) {
  if (pool_.release(id) > 0) return;
  if (cache_.contains(id)) {
    cache_.set_evictable(id, true);
  } else {
    pool_.free(id);
  }
}

BlockId KvCacheManager::allocate_or_evict() {
  if (pool_.num_free() == 0) {
    const std::optional<BlockId> evicted = cache_.evict();
    QUIRE_CHECK(evicted.has_value()) << "nothing to evict";
    pool_.free(*evicted);
    metrics_.blocks_evicted.add();
  }
  return *pool_.allocate();
}

void KvCacheManager::update_gauges() {
  metrics_.blocks_total.set(num_blocks());
  metrics_.blocks_free.set(pool_.num_free());
  metrics_.blocks_cached.set(cache_.num_unreferenced());
  metrics_.blocks_in_use.set(num_blocks() - num_allocatable());
}

void KvCacheManager::check_integrity(std::span<const Sequence* const> live) const {
  std::vector<int32_t> num_references(static_cast<size_t>(num_blocks()), 0);
  for (const Sequence* sequence : live) {
    const std::vector<BlockId>& table = sequence->block_table.block_ids;
    QUIRE_CHECK(sequence->num_computed_tokens <= sequence->block_table.num_blocks() * block_size_)
        << "computed tokens without blocks";
    for (size_t i = 0; i < table.size(); ++i) {
      ++num_references[static_cast<size_t>(to_index(table[i]))];
      const bool is_published = static_cast<int32_t>(i) < sequence->num_published_blocks;
      QUIRE_CHECK(cache_.contains(table[i]) == is_published)
          << "sequence " << static_cast<uint64_t>(sequence->id) << ", block " << i;
      QUIRE_CHECK(is_published || pool_.num_references(table[i]) == 1) << "an open block is shared";
    }
  }
  int32_t num_free = 0;
  for (int32_t block = 0; block < num_blocks(); ++block) {
    const auto id = static_cast<BlockId>(block);
    const int32_t expected = num_references[static_cast<size_t>(block)];
    num_free += pool_.is_free(id);
    QUIRE_CHECK(pool_.is_free(id) ? expected == 0 : pool_.num_references(id) == expected)
        << "block " << block << ": " << pool_.num_references(id) << " references, " << expected
        << " in block tables";
    QUIRE_CHECK(pool_.is_free(id) || expected > 0 || cache_.contains(id))
        << "block " << block << " is lost";
    QUIRE_CHECK(!(pool_.is_free(id) && cache_.contains(id))) << "block " << block << " is free";
  }
  QUIRE_CHECK(num_free == pool_.num_free()) << "free list";
  cache_.check_integrity();
}

}  // namespace quire
