#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gate_few_rows.h"
#include "kernels/cpu/gate_scan.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/selection_stages.h"

// Scores of a tile of rows against a tile of centroids, folded into a running top-k per row: the
// scores of a million-token document are never all there at once. A score reaches memory only if it
// is not below the smallest one that its row keeps, which is rare after the first few hundred
// blocks; where many rows share a history, 8-bit integers rule out nearly all others before they
// are computed. Where there are few rows (decode), the history is split between threads and the
// parts' tops are merged; keys are ordered totally, so the split changes nothing.

namespace quire::cpu {
namespace {

constexpr int64_t kTileRows = 512;
constexpr int64_t kMinBlocksPerPart = 512;  // of history
constexpr int64_t kItemsPerThread = 4;
// Below these, packing centroids as integers costs more than it saves.
constexpr int64_t kMinScreenedRows = 256;  // of one sequence and KV head
constexpr int64_t kMinScreenedBlocks = 8 * kTileKeys;
constexpr int64_t kTilesPerItem = 8;  // packed by a thread in one go

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
  const int64_t num_wanted = kItemsPerThread * num_loop_threads();
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

/// The histories that are worth it as integers: a byte per number, half of what the centroids take.
class ScreenedHistories {
 public:
  ScreenedHistories(const MobaGateParams& params, const std::vector<SequenceRows>& sequences,
                    const std::vector<RowTile>& tiles)
      : first_(sequences.data()),
        num_kv_heads_(params.kv.num_kv_heads()),
        keys_(sequences.size() * static_cast<size_t>(num_kv_heads_)) {
    if (!has_int8_screen()) return;
    struct Item {
      const RowTile* row_tile;
      int64_t num_blocks, first_tile;
    };
    std::vector<Item> items;
    for (const RowTile& tile : tiles) {
      const SequenceRows& sequence = *tile.sequence;
      // Of a sequence and KV head, the tile that sees most.
      if (tile.first_row + tile.num_tokens != sequence.end_row) continue;
      const int64_t group_size = params.query.shape[1] / num_kv_heads_;
      const int64_t num_rows = (sequence.end_row - sequence.first_row) * group_size;
      const int64_t num_blocks = TileRows(params, tile).num_scored_blocks();
      if (num_rows < kMinScreenedRows || num_blocks < kMinScreenedBlocks) continue;
      keys_[index(tile)] = make_screened_keys(params, sequence, tile.kv_head, num_blocks);
      for (int64_t t = 0; t * kTileKeys < num_blocks; t += kTilesPerItem) {
        items.push_back({&tile, num_blocks, t});
      }
    }
    parallel_for(static_cast<int64_t>(items.size()), 1, [&](int64_t i) {
      const auto& [tile, num_blocks, first] = items[static_cast<size_t>(i)];
      const int64_t num_tiles = (num_blocks + kTileKeys - 1) / kTileKeys;
      for (int64_t t = first; t < std::min(first + kTilesPerItem, num_tiles); ++t) {
        pack_screened_tile(params, *tile->sequence, tile->kv_head, num_blocks, t,
                           *keys_[index(*tile)]);
      }
    });
  }

  /// Null where the history is not kept as integers.
  const ScreenedKeys* of(const RowTile& tile) const {
    const auto& keys = keys_[index(tile)];
    return keys ? &*keys : nullptr;
  }

 private:
  size_t index(const RowTile& tile) const {
    return static_cast<size_t>((tile.sequence - first_) * num_kv_heads_ + tile.kv_head);
  }

  const SequenceRows* first_;
  int64_t num_kv_heads_;
  std::vector<std::optional<ScreenedKeys>> keys_;
};

/// Tiles of few rows.
void select_for_few(const MobaGateParams& params, const std::vector<RowTile>& tiles) {
  FewRowsGate gate(params, tiles);
  gate.scan();
  for (size_t t = 0; t < tiles.size(); ++t) {
    const TileRows rows(params, tiles[t]);
    for (int64_t r = 0; r < rows.size(); ++r) {
      write_selection(params, rows, r, tiles[t].sequence->top_k, gate.keys(t, r));
    }
  }
}

/// Tiles of any size.
void select_for_many(const MobaGateParams& params, const std::vector<SequenceRows>& sequences,
                     const std::vector<RowTile>& tiles) {
  const ScreenedHistories screened(params, sequences, tiles);
  std::vector<Part> parts = plan_parts(params, tiles);
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t i) {
    Part& part = parts[static_cast<size_t>(i)];
    if (part.first_block == part.end_block) return;  // no row has a choice
    scan_history(params, *part.tile, screened.of(*part.tile), part.first_block, part.end_block,
                 part.tops);
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

/// Everything but the schedule: a row chooses among blocks.
void select_blocks(const MobaGateParams& params, const std::vector<SequenceRows>& sequences) {
  const int64_t group_size = params.query.shape[1] / params.kv.num_kv_heads();
  for (const SequenceRows& sequence : sequences) {
    QUIRE_CHECK(sequence.top_k <= params.selected.shape[2])
        << "top_k " << sequence.top_k << " of " << params.selected.shape[2];
  }
  const std::vector<RowTile> tiles =
      make_row_tiles(sequences, params.kv.num_kv_heads(), group_size, kTileRows);
  std::vector<RowTile> few, many;
  for (const RowTile& tile : tiles) (has_few_rows(params, tile) ? few : many).push_back(tile);
  if (!few.empty()) select_for_few(params, few);
  if (!many.empty()) select_for_many(params, sequences, many);
}

}  // namespace

void moba_gate(const MobaGateParams& params) {
  std::vector<SequenceRows> sequences = read_batch(params.batch, params.kv, params.query.shape[0]);
  const int32_t* top_k = params.top_k.data_as<int32_t>();
  for (size_t s = 0; s < sequences.size(); ++s) {
    QUIRE_CHECK(top_k[s] >= 1) << "top_k " << top_k[s];
    sequences[s].top_k = top_k[s];
  }
  if (params.schedule.num_stages == 0) return select_blocks(params, sequences);
  for (int32_t stage = -1; stage < params.schedule.num_stages; ++stage) {
    const StageRows part(params, sequences, stage);
    if (part.is_empty()) continue;
    select_blocks(part.params(), part.rows());
    part.expand();
  }
}

}  // namespace quire::cpu
