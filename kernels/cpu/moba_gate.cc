#include <omp.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

// Scores of a tile of rows against a tile of centroids, folded into a running top-k per row: the
// scores of a million-token document are never all there at once. A score reaches memory only if it
// is not below the smallest one that its row keeps, which is rare after the first few hundred
// blocks. A tile of centroids is packed once for all rows of the tile. Where there are few rows
// (decode), the history is split between threads and the parts' tops are merged; keys are ordered
// totally, so the split changes nothing.

namespace quire::cpu {
namespace {

constexpr int64_t kTileRows = 512;
constexpr int64_t kRowsAtOnce = 48;         // their scores against a tile stay in the first cache
constexpr int64_t kMinBlocksPerPart = 512;  // of history
constexpr int64_t kItemsPerThread = 4;

/// One order for scores and ties: monotone f32 bits above, block index below. NaN sorts as -inf.
uint64_t sort_key(float score, int64_t logical_block) {
  if (score != score) score = -std::numeric_limits<float>::infinity();
  if (score == 0.0f) score = 0.0f;  // -0 and +0 tie
  const auto bits = std::bit_cast<uint32_t>(score);
  const uint32_t monotone = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(monotone) << 32 | static_cast<uint32_t>(logical_block);
}

float score_of(uint64_t key) {
  const auto monotone = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = (monotone & 0x80000000u) != 0 ? monotone & 0x7FFFFFFFu : ~monotone;
  return std::bit_cast<float>(bits);
}

/// The largest `capacity` keys that each row has been offered, ascending.
class RunningTops {
 public:
  RunningTops(int64_t num_rows, int64_t capacity)
      : capacity_(capacity),
        keys_(static_cast<size_t>(num_rows * capacity)),
        counts_(static_cast<size_t>(num_rows), 0),
        thresholds_(static_cast<size_t>(num_rows), -std::numeric_limits<float>::infinity()) {}

  /// A row's lowest score that may still enter; -inf while there is room.
  const float* thresholds() const { return thresholds_.data(); }

  void offer(int64_t row, uint64_t key) {
    uint64_t* keys = keys_.data() + row * capacity_;
    int64_t& count = counts_[static_cast<size_t>(row)];
    int64_t i;
    if (count < capacity_) {
      for (i = count++; i > 0 && keys[i - 1] > key; --i) keys[i] = keys[i - 1];
    } else {
      if (key < keys[0]) return;
      for (i = 0; i + 1 < count && keys[i + 1] < key; ++i) keys[i] = keys[i + 1];
    }
    keys[i] = key;
    if (count == capacity_) thresholds_[static_cast<size_t>(row)] = score_of(keys[0]);
  }

  std::span<const uint64_t> keys(int64_t row) const {
    return {keys_.data() + row * capacity_, static_cast<size_t>(counts_[static_cast<size_t>(row)])};
  }

 private:
  int64_t capacity_;
  std::vector<uint64_t> keys_;  // [num_rows, capacity]
  std::vector<int64_t> counts_;
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

/// Offers blocks [first_block, end_block) of the history to the tile's rows.
void score_history(const MobaGateParams& params, const RowTile& tile, int64_t first_block,
                   int64_t end_block, RunningTops& tops) {
  const TileRows rows(params, tile);
  const int64_t head_dim = params.kv.head_dim(), stride = query_stride(head_dim);
  std::vector<float> query(static_cast<size_t>(rows.size() * stride));
  std::vector<float> packed(static_cast<size_t>(packed_keys_size(head_dim)));
  std::vector<int64_t> current_blocks(static_cast<size_t>(rows.size()));
  float scores[kRowsAtOnce * kTileKeys];
  uint64_t masks[kRowsAtOnce];
  for (int64_t r = 0; r < rows.size(); ++r) {
    current_blocks[static_cast<size_t>(r)] = rows.current_block(r);
    pack_query(
        reinterpret_cast<const BFloat16*>(address(params.query, rows.token_row(r), rows.head(r))),
        head_dim, query.data() + r * stride);
  }
  for (int64_t first = first_block; first < end_block; first += kTileKeys) {
    const int64_t count = std::min(kTileKeys, end_block - first);
    const BFloat16* centroids[kTileKeys];
    for (int64_t j = 0; j < count; ++j) {
      centroids[j] = reinterpret_cast<const BFloat16*>(
          address(params.kv.centroids, tile.sequence->block_table[first + j], tile.kv_head));
    }
    pack_keys(centroids, count, head_dim, packed.data());
    for (int64_t r0 = 0; r0 < rows.size(); r0 += kRowsAtOnce) {
      const int64_t num_rows = std::min(kRowsAtOnce, rows.size() - r0);
      score_above(query.data() + r0 * stride, num_rows, head_dim, packed.data(),
                  tops.thresholds() + r0, scores, masks);
      for (int64_t r = r0; r < r0 + num_rows; ++r) {
        if (masks[r - r0] == 0) continue;
        const int64_t visible = std::min(count, current_blocks[static_cast<size_t>(r)] - first);
        if (visible <= 0) continue;
        const uint64_t in_sight =
            visible == kTileKeys ? ~uint64_t{0} : (uint64_t{1} << visible) - 1;
        for (uint64_t mask = masks[r - r0] & in_sight; mask != 0; mask &= mask - 1) {
          const int j = std::countr_zero(mask);
          tops.offer(r, sort_key(scores[(r - r0) * kTileKeys + j], first + j));
        }
      }
    }
  }
}

void write_selection(const MobaGateParams& params, const TileRows& rows, int64_t r, int64_t top_k,
                     std::span<const uint64_t> history) {
  const int64_t current = rows.current_block(r);
  auto* out = reinterpret_cast<int32_t*>(address(params.selected, rows.token_row(r), rows.head(r)));
  int64_t count = 0;
  if (current <= top_k - 1) {
    for (; count < current; ++count) out[count] = static_cast<int32_t>(count);
  } else {
    for (const uint64_t key : history) out[count++] = static_cast<int32_t>(key & 0xFFFFFFFFu);
    std::sort(out, out + count);
  }
  out[count++] = static_cast<int32_t>(current);
  std::fill(out + count, out + params.selected.shape[2], -1);
}

/// A part of a tile's history.
struct Part {
  const RowTile* tile;
  int64_t first_block, end_block;
  RunningTops tops;
};

/// Cuts the tiles' histories so that there is work for all threads.
std::vector<Part> plan_parts(const MobaGateParams& params, const std::vector<RowTile>& tiles) {
  const int64_t num_wanted = kItemsPerThread * omp_get_max_threads();
  const auto num_tiles = static_cast<int64_t>(tiles.size());
  std::vector<Part> parts;
  for (const RowTile& tile : tiles) {
    const TileRows rows(params, tile);
    const int64_t num_blocks = rows.num_scored_blocks();
    const int64_t num_parts = std::clamp<int64_t>(num_blocks / kMinBlocksPerPart, 1,
                                                  std::max<int64_t>(num_wanted / num_tiles, 1));
    const int64_t step = (num_blocks / num_parts + kTileKeys) / kTileKeys * kTileKeys;
    for (int64_t first = 0; first < std::max<int64_t>(num_blocks, 1); first += step) {
      parts.push_back({&tile, first, std::min(first + step, num_blocks),
                       RunningTops(rows.size(), tile.sequence->top_k - 1)});
    }
  }
  return parts;
}

}  // namespace

void moba_gate(const MobaGateParams& params) {
  std::vector<SequenceRows> sequences = read_batch(params.batch, params.kv, params.query.shape[0]);
  const int32_t* top_k = params.top_k.data_as<int32_t>();
  const int64_t group_size = params.query.shape[1] / params.kv.num_kv_heads();
  for (size_t s = 0; s < sequences.size(); ++s) {
    sequences[s].top_k = top_k[s];
    QUIRE_CHECK(top_k[s] >= 1 && top_k[s] <= params.selected.shape[2])
        << "top_k " << top_k[s] << " of " << params.selected.shape[2];
  }
  const std::vector<RowTile> tiles =
      make_row_tiles(sequences, params.kv.num_kv_heads(), group_size, kTileRows);
  std::vector<Part> parts = plan_parts(params, tiles);
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t i) {
    Part& part = parts[static_cast<size_t>(i)];
    if (part.first_block == part.end_block) return;  // no row has a choice
    score_history(params, *part.tile, part.first_block, part.end_block, part.tops);
  });
  // A tile's parts stand side by side; the first one takes in the others.
  std::vector<int64_t> firsts;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i == 0 || parts[i].tile != parts[i - 1].tile) firsts.push_back(static_cast<int64_t>(i));
  }
  parallel_for(static_cast<int64_t>(firsts.size()), 1, [&](int64_t i) {
    const auto first = static_cast<size_t>(firsts[static_cast<size_t>(i)]);
    const RowTile& tile = *parts[first].tile;
    const TileRows rows(params, tile);
    for (int64_t r = 0; r < rows.size(); ++r) {
      for (size_t p = first + 1; p < parts.size() && parts[p].tile == &tile; ++p) {
        for (const uint64_t key : parts[p].tops.keys(r)) parts[first].tops.offer(r, key);
      }
      write_selection(params, rows, r, tile.sequence->top_k, parts[first].tops.keys(r));
    }
  });
}

}  // namespace quire::cpu
