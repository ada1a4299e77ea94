#pragma once

#include <cstdint>

#include "engine/core/metrics.h"
#include "engine/kv_cache/block_pool.h"
#include "engine/kv_cache/prefix_cache.h"

namespace quire {

struct Sequence;

/// Whose block is whose: block pool and prefix cache behind the verbs that the scheduler needs.
/// Knows nothing of devices: a block is a number here. Engine thread only.
///
/// Life of a block: free -> open (one sequence fills it) -> sealed (full, immutable, with K, V,
/// centroid and prefix hash; may be shared) -> cached (sealed, unreferenced, evictable) -> free.
class KvCacheManager {
 public:
  KvCacheManager(int32_t num_blocks, int32_t block_size, bool enable_prefix_cache,
                 EngineMetrics& metrics);

  /// Attaches the longest run of sealed blocks that matches the sequence's tokens and salt, token by
  /// token, and sets num_computed_tokens. At least one token always stays to be computed. Returns
  /// the tokens found, a multiple of block_size. REQUIRES: the sequence holds no blocks.
  int32_t match_prefix(Sequence& sequence);

  /// Whether a running sequence is computing blocks that this one would find if it waited.
  bool prefix_in_flight(const Sequence& sequence) const;

  /// Blocks for `num_new_tokens` after num_computed_tokens: all or nothing. May evict cached blocks.
  bool reserve(Sequence& sequence, int32_t num_new_tokens);

  /// After a successful step: num_computed_tokens grows; blocks that became full are sealed and
  /// published under their prefix hash. Where an equal block is published already, this one stays
  /// private to its sequence.
  void commit(Sequence& sequence, int32_t num_new_tokens);

  /// Gives back all blocks; sealed and published ones stay cached. Idempotent.
  void release(Sequence& sequence) noexcept;

  int32_t num_allocatable() const;  // free + cached
  int32_t num_blocks() const;
  int32_t block_size() const;

  /// Recounts everything from first principles against `live` sequences; throws ContractError with
  /// a dump. Tests call it every step, production never.
  void check_integrity(std::span<const Sequence* const> live) const;
};

}  // namespace quire
