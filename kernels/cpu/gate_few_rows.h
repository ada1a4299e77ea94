#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/gate_scan.h"

// The gate for tiles of few rows (decode), which are bound by reading centroids. All KV heads of a
// key tile are scored together, since their centroids lie side by side; centroids are not packed,
// and those of the next tile come near meanwhile. A thread keeps a running top of its own for every
// row, whichever parts of a history it is handed: keys are ordered totally, so this changes
// nothing.

namespace quire::cpu {

/// Whether `tile` is one for FewRowsGate.
bool has_few_rows(const MobaGateParams& params, const RowTile& tile);

class FewRowsGate {
 public:
  /// `tiles`: as make_row_tiles lists them, a sequence's KV heads side by side.
  FewRowsGate(const MobaGateParams& params, const std::vector<RowTile>& tiles);

  /// Offers every tile's history to its rows, by all threads.
  void scan();

  /// What row r of a tile keeps of its history, ascending; valid until the next call.
  std::span<const uint64_t> keys(size_t tile, int64_t r);

 private:
  /// Blocks [first_block, end_block) of a sequence, for the tiles from first_tile on: one per KV
  /// head. first_block is a multiple of kTileKeys.
  struct Item {
    size_t first_tile;
    int64_t first_block, end_block;
  };

  void scan(const Item& item);
  const float* pack_queries(size_t first_tile) const;
  RunningTops& own_tops(size_t tile);

  const MobaGateParams& params_;
  const std::vector<RowTile>& tiles_;
  size_t num_kv_heads_, num_threads_;
  std::vector<Item> items_;
  std::vector<std::optional<RunningTops>> tops_;  // [tiles, threads]; absent where nothing is kept
};

}  // namespace quire::cpu
