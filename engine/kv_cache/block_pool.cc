#include "engine/kv_cache/block_pool.h"

#include "kernels/check.h"

namespace quire {

BlockPool::BlockPool(int32_t num_blocks) {
  QUIRE_CHECK(num_blocks >= 0) << "num_blocks=" << num_blocks;
  num_references_.assign(static_cast<size_t>(num_blocks), kFree);
  free_list_.reserve(static_cast<size_t>(num_blocks));
  for (int32_t block = num_blocks - 1; block >= 0; --block) {
    free_list_.push_back(static_cast<BlockId>(block));
  }
}

std::optional<BlockId> BlockPool::allocate() {
  if (free_list_.empty()) return std::nullopt;
  const BlockId id = free_list_.back();
  free_list_.pop_back();
  count_of(id) = 1;
  return id;
}

void BlockPool::retain(BlockId id) {
  int32_t& count = count_of(id);
  QUIRE_CHECK(count >= 0) << "block " << to_index(id) << " is free";
  ++count;
}

int32_t BlockPool::release(BlockId id) {
  int32_t& count = count_of(id);
  QUIRE_CHECK(count >= 1) << "block " << to_index(id) << " has " << count << " references";
  return --count;
}

void BlockPool::free(BlockId id) {
  int32_t& count = count_of(id);
  QUIRE_CHECK(count == 0) << "block " << to_index(id) << " has " << count << " references";
  count = kFree;
  free_list_.push_back(id);
}

int32_t BlockPool::num_references(BlockId id) const {
  return const_cast<BlockPool*>(this)->count_of(id);
}

bool BlockPool::is_free(BlockId id) const { return num_references(id) == kFree; }

int32_t& BlockPool::count_of(BlockId id) {
  QUIRE_CHECK(to_index(id) >= 0 && to_index(id) < num_blocks())
      << "block " << to_index(id) << " of " << num_blocks();
  return num_references_[static_cast<size_t>(to_index(id))];
}

}  // namespace quire
