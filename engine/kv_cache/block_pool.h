#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// Free list and reference counts of the block pool, nothing else. A block is free (on the list),
/// or taken: referenced by that many sequences, possibly by none while the prefix cache keeps it.
/// Engine thread only.
class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);

  /// A free block, now referenced once; nullopt when none is free.
  std::optional<BlockId> allocate();

  void retain(BlockId id);
  /// Returns how many references are left. REQUIRES: at least one.
  int32_t release(BlockId id);
  /// Puts an unreferenced, taken block back on the free list.
  void free(BlockId id);

  int32_t num_references(BlockId id) const;
  bool is_free(BlockId id) const;
  int32_t num_free() const { return static_cast<int32_t>(free_list_.size()); }
  int32_t num_blocks() const { return static_cast<int32_t>(num_references_.size()); }

 private:
  static constexpr int32_t kFree = -1;

  int32_t& count_of(BlockId id);

  std::vector<int32_t> num_references_;  // kFree for blocks on the free list
  std::vector<BlockId> free_list_;       // last in, first out: warm blocks are reused first
};

}  // namespace quire
