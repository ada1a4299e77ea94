#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/int8_screen.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_rows.h"
#include "kernels/ops/moba_gate.h"

// One tile of query rows on its way through a history: what the gate of the cpu backend is made of.

namespace quire::cpu {

/// One order for scores and ties: monotone f32 bits above, block index below. NaN sorts as -inf.
inline uint64_t sort_key(float score, int64_t logical_block) {
  if (score != score) score = -std::numeric_limits<float>::infinity();
  if (score == 0.0f) score = 0.0f;  // -0 and +0 tie
  const auto bits = std::bit_cast<uint32_t>(score);
  const uint32_t monotone = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(monotone) << 32 | static_cast<uint32_t>(logical_block);
}

inline float score_of(uint64_t key) {
  const auto monotone = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = (monotone & 0x80000000u) != 0 ? monotone & 0x7FFFFFFFu : ~monotone;
  return std::bit_cast<float>(bits);
}

/// The lowest `count` bits of a mask over a tile of keys.
inline uint64_t first_bits(int64_t count) {
  if (count <= 0) return 0;
  return count >= kTileKeys ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

/// The largest `capacity` keys that each row has been offered, ascending.
class RunningTops {
 public:
  RunningTops(int64_t num_rows, int64_t capacity)
      : capacity_(capacity),
        keys_(static_cast<size_t>(num_rows * capacity), kNoKey),
        thresholds_(static_cast<size_t>(num_rows), -std::numeric_limits<float>::infinity()) {}

  /// A row's lowest score that may still enter; -inf while there is room.
  const float* thresholds() const { return thresholds_.data(); }

  void offer(int64_t row, uint64_t key) {
    uint64_t* keys = keys_.data() + row * capacity_;
    if (key < keys[0]) return;
    // keys[0] falls out. Every step is taken whatever the key: where it ends up can not be
    // foreseen.
    for (int64_t i = 0; i + 1 < capacity_; ++i) {
      keys[i] = std::max(keys[i], std::min(key, keys[i + 1]));
    }
    keys[capacity_ - 1] = std::max(keys[capacity_ - 1], key);
    if (keys[0] != kNoKey) thresholds_[static_cast<size_t>(row)] = score_of(keys[0]);
  }

  std::span<const uint64_t> keys(int64_t row) const {
    const uint64_t* first = keys_.data() + row * capacity_;
    const uint64_t* end = first + capacity_;
    while (first != end && *first == kNoKey) ++first;
    return {first, end};
  }

 private:
  static constexpr uint64_t kNoKey = 0;  // below every score's

  int64_t capacity_;
  std::vector<uint64_t> keys_;  // [num_rows, capacity]
  std::vector<float> thresholds_;
};

/// A tile's rows, by number.
class TileRows {
 public:
  TileRows(const MobaGateParams& params, const RowTile& tile)
      : tile_(tile),
        group_size_(params.query.shape[1] / params.kv.num_kv_heads()),
        block_size_(params.kv.block_size()) {}

  int64_t size() const { return tile_.num_tokens * group_size_; }
  int64_t token_row(int64_t r) const { return tile_.first_row + r / group_size_; }
  int64_t head(int64_t r) const { return tile_.kv_head * group_size_ + r % group_size_; }
  int64_t current_block(int64_t r) const {
    const int64_t position =
        tile_.sequence->first_position + token_row(r) - tile_.sequence->first_row;
    return position / block_size_;
  }
  /// Blocks that the last row may choose from; 0 where no row has a choice.
  int64_t num_scored_blocks() const {
    const int64_t last = current_block(size() - 1), top_k = tile_.sequence->top_k;
    return top_k > 1 && last > top_k - 1 ? last : 0;
  }

 private:
  const RowTile& tile_;
  int64_t group_size_, block_size_;
};

/// The query of a row as it meets the centroids, [digest_dim]: where the batch has it, or, with a
/// digest other than the mean, expanded into `memory` (block_digest.h).
const BFloat16* gate_query(const MobaGateParams& params, const TileRows& rows, int64_t r,
                           Scratch<BFloat16>& memory);

/// The centroid (or other digest) of one block of a sequence's history, [digest_dim].
const BFloat16* centroid(const MobaGateParams& params, const SequenceRows& sequence,
                         int64_t kv_head, int64_t logical_block);

/// The centroids of blocks [0, num_blocks) of a sequence and KV head, to be packed tile by tile.
ScreenedKeys make_screened_keys(const MobaGateParams& params, const SequenceRows& sequence,
                                int64_t kv_head, int64_t num_blocks);
void pack_screened_tile(const MobaGateParams& params, const SequenceRows& sequence, int64_t kv_head,
                        int64_t num_blocks, int64_t tile, ScreenedKeys& keys);

/// Offers blocks [first_block, end_block) of the history to the tile's rows. first_block is a
/// multiple of kTileKeys. `screened`: those blocks and perhaps others, or null.
void scan_history(const MobaGateParams& params, const RowTile& tile, const ScreenedKeys* screened,
                  int64_t first_block, int64_t end_block, RunningTops& tops);

}  // namespace quire::cpu
