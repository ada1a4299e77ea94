#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "engine/core/metrics.h"
#include "engine/kv_cache/block_pool.h"
#include "engine/kv_cache/prefix_cache.h"

namespace quire {

struct Sequence;

/// A forecast of match_prefix: exact unless two hashes collide.
struct CachedPrefix {
  int32_t num_blocks = 0;      // the first blocks of the sequence that are published
  int32_t num_referenced = 0;  // the first of those that sequences hold; the others are evictable
};

/// Whose block is whose: block pool and prefix cache behind the verbs that the scheduler needs.
/// Knows nothing of devices: a block is a number here. Engine thread only.
///
/// Life of a block: free -> open (one sequence fills it) -> sealed (full, immutable, with K, V and
/// centroid) -> published (findable by its prefix hash, may be shared) -> cached (published,
/// unreferenced, evictable) -> free.
///
/// What K and V of a block depend on is its tokens, all tokens before them, the rope set that keys
/// were rotated with, and the attention that computed them: hidden states behind the first layer
/// differ between full and sparse attention and between two top-k. So the root of a chain names the
/// cache salt, the rope set and the prefill's attention, and blocks with completion tokens are
/// shared, in either direction, only where decode attends as prefill does.
class KvCacheManager {
 public:
  KvCacheManager(int32_t num_blocks, int32_t block_size, bool enable_prefix_cache,
                 EngineMetrics& metrics, BlockHasher hasher = hash_block);

  /// Attaches the longest run of published blocks that matches the sequence's tokens, token by
  /// token, and sets num_computed_tokens. At least one token always stays to be computed. Returns
  /// the tokens found, a multiple of block_size. O(tokens found). REQUIRES: the sequence holds no
  /// blocks.
  int32_t match_prefix(Sequence& sequence);

  /// What match_prefix would find of a sequence without blocks. O(log blocks) once its hash chain
  /// is grown, so that a long prompt may be asked about in every step while it waits.
  CachedPrefix cached_prefix(Sequence& waiting) const;

  /// Whether all blocks of a sequence with that cached prefix, and `num_spare_blocks` more, could
  /// be had now.
  bool has_room_for(const Sequence& waiting, const CachedPrefix& cached,
                    int32_t num_spare_blocks) const;

  /// Whether `running` is going to publish block `block_idx` of `waiting`, which is not published
  /// yet. False for a block that `waiting` could not take.
  bool is_computing_block(Sequence& running, Sequence& waiting, int32_t block_idx) const;

  /// Blocks for `num_new_tokens` after num_computed_tokens: all or nothing. May evict cached
  /// blocks.
  bool reserve(Sequence& sequence, int32_t num_new_tokens);

  /// After a successful step: num_computed_tokens grows; blocks that became full are published.
  /// Where an equal block is published already, the sequence takes that one and gives its own back:
  /// the bits are the same.
  void commit(Sequence& sequence, int32_t num_new_tokens);

  /// Gives back all blocks; published ones stay cached. num_computed_tokens becomes 0. Idempotent.
  void release(Sequence& sequence) noexcept;

  int32_t num_allocatable() const { return pool_.num_free() + cache_.num_unreferenced(); }
  int32_t num_blocks() const { return pool_.num_blocks(); }
  int32_t block_size() const { return block_size_; }
  int32_t num_blocks_for(int64_t num_tokens) const {
    return static_cast<int32_t>((num_tokens + block_size_ - 1) / block_size_);
  }

  /// Recounts everything from first principles against `live` sequences; throws ContractError.
  /// Tests call it every step, production never.
  void check_integrity(std::span<const Sequence* const> live) const;

 private:
  void grow_hashes(Sequence& sequence, int32_t num_blocks) const;
  PrefixCache::Key key_of(const Sequence& sequence, int32_t block_idx,
                          const std::string& root) const;
  int32_t max_prefix_blocks(const Sequence& sequence) const;
  void publish(Sequence& sequence, int32_t block_idx);
  bool may_publish(const Sequence& sequence, int32_t block_idx) const;
  void take_reference(BlockId id);
  void drop_reference(BlockId id);
  BlockId allocate_or_evict();
  void update_gauges();

  int32_t block_size_;
  bool enable_prefix_cache_;
  EngineMetrics& metrics_;
  BlockHasher hasher_;
  BlockPool pool_;
  PrefixCache cache_;
};

}  // namespace quire
