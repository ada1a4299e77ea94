#pragma once

#include <cstddef>
#include <cstdint>

// How much an op computes at a time, and where its scratch lies: plain arithmetic on sizes that the
// host knows. An op whose scratch would not fit runs in passes over its rows; rows do not depend on
// each other, so the number of passes changes no bit.

namespace quire::cuda {

/// a / b, rounded up.
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The extent of a grid whose blocks take `per_block` of `count` items each.
inline unsigned blocks_for(int64_t count, int64_t per_block) {
  return static_cast<unsigned>(ceil_div(count, per_block));
}

/// Rows of queries or of a product that a block computes together.
inline constexpr int kTileRows = 64;

/// No batch has more tiles of packed rows (device/batch.cuh) than this in a pass of `num_rows`
/// rows.
inline int64_t max_packed_tiles(int64_t num_rows, int64_t group_size, int64_t num_seqs) {
  return num_rows * group_size / kTileRows + num_seqs;
}

/// Places arrays behind each other, 256-byte aligned.
class ScratchLayout {
 public:
  /// Offset of `count` elements of T.
  template <class T>
  size_t add(int64_t count) {
    const size_t offset = used_bytes_;
    used_bytes_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return offset;
  }
  size_t used_bytes() const { return used_bytes_; }

 private:
  size_t used_bytes_ = 0;
};

/// The sizes of an attention call.
struct AttentionSizes {
  int64_t num_rows = 0;  // of the query tensor
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t num_slots = 0;    // partials of one (row, head): max_selected, or runs of full attention
  int64_t num_buckets = 0;  // (block, KV head) pairs of the pool; MoBA only
};

/// One tile of routed rows: at most kTileRows that read the same block.
struct RoutedTile {
  int32_t bucket, first, num_rows;
};

/// A row of a routed tile: which partial it computes, and how many of the block's keys it sees.
struct RoutedRow {
  int32_t pair, limit;
};

struct RoutingCursors {
  int32_t num_touched, num_rows, num_tiles;
};

/// Scratch of one pass of moba_attention.
struct MobaAttentionPlan {
  int64_t rows_per_pass = 0;
  int64_t max_pairs = 0;    // (row, head, slot) triples of a pass
  int64_t max_touched = 0;  // buckets with any row
  int64_t max_tiles = 0;
  size_t partial_out = 0, partial_state = 0;    // [max_pairs, head_dim] f32, [max_pairs] 2 f32
  size_t ranks = 0, rows = 0;                   // [max_pairs] i32, [max_pairs] RoutedRow
  size_t touched = 0, tiles = 0;                // [max_touched] i32, [max_tiles] RoutedTile
  size_t counts = 0, offsets = 0, cursors = 0;  // [num_buckets] i32 twice, RoutingCursors
  size_t total_bytes = 0;
};

/// Scratch of one pass of full_attention.
struct FullAttentionPlan {
  int64_t rows_per_pass = 0;
  size_t partial_out = 0, partial_state = 0;  // [rows, heads, slots, head_dim] f32, without d 2 f32
  size_t total_bytes = 0;
};

/// The sizes of a gate call.
struct GateSizes {
  int64_t num_rows = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t num_seqs = 0;
  int64_t max_history = 0;     // units (of a schedule; else blocks) that a row chooses from at most
  int64_t max_candidates = 0;  // of them that a row keeps at most: max_selected - 1
  int64_t num_multiprocessors = 1;
};

/// Scratch of one pass of moba_gate.
struct GatePlan {
  int64_t rows_per_pass = 0;
  int64_t num_splits = 1;       // of the history, each with candidates of its own
  int64_t units_per_split = 0;  // a multiple of kGateColumns
  size_t candidates = 0;        // [rows, heads, num_splits, max_candidates] u64 keys
  size_t total_bytes = 0;
};

/// Where rows of integers and their scales lie.
struct Int8RowsPlan {
  int64_t num_rows = 0;
  size_t values = 0, scales = 0;  // [num_rows, pitch] i8, [num_rows] f32
  size_t total_bytes = 0;
};
Int8RowsPlan place_int8_rows(int64_t num_rows, int64_t pitch);

/// Centroids that the gate scores at a time.
inline constexpr int kGateColumns = 64;

/// Tokens of one partial of full attention. Part of what a row computes, in prefill and decode
/// alike: another number gives other roundings.
inline constexpr int kFullRunTokens = 2048;

/// Runs of which a row can see keys: of the longest sequence, or of a window's tokens.
int64_t max_runs_of_row(int64_t max_kv_len, int64_t window);

/// Each throws DeviceError if not even one row fits `scratch_bytes`.
MobaAttentionPlan plan_moba_attention(const AttentionSizes& sizes, size_t scratch_bytes);
FullAttentionPlan plan_full_attention(const AttentionSizes& sizes, size_t scratch_bytes);
GatePlan plan_moba_gate(const GateSizes& sizes, size_t scratch_bytes);
/// One pass of an int8 product's left side.
Int8RowsPlan plan_int8_rows(int64_t num_rows, int64_t pitch, size_t scratch_bytes);

}  // namespace quire::cuda
