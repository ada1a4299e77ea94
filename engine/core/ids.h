#pragma once

#include <cstdint>

namespace quire {

/// One generation, unique for the life of an engine. Never reused.
enum class SequenceId : uint64_t {};

/// A block's physical index in the pool. Never mix with a slot (block id * block_size + offset) or
/// with a logical block index (ordinal within a sequence).
enum class BlockId : int32_t { kNone = -1 };

using TokenId = int32_t;

constexpr int32_t to_index(BlockId id) { return static_cast<int32_t>(id); }

}  // namespace quire
