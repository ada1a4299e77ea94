#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// Logical block index -> block id, for one sequence.
struct BlockTable {
  std::vector<BlockId> block_ids;
  int32_t num_blocks() const { return static_cast<int32_t>(block_ids.size()); }
};

}  // namespace quire
