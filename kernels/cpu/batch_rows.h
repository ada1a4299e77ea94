#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/rows.h"
#include "kernels/paged_kv.h"

namespace quire::cpu {

/// Where one sequence of a batch stands.
struct SequenceRows {
  int64_t first_row = 0;  // of the query tensor
  int64_t end_row = 0;
  int64_t first_position = 0;            // of first_row's token
  const int32_t* block_table = nullptr;  // logical block index -> block id
  int32_t top_k = 1;                     // gate only
};

/// Reads and checks a batch once per op: rows in range, lengths consistent, block ids inside the
/// pool for every block that holds a token. Throws ContractError.
std::vector<SequenceRows> read_batch(const RaggedBatchView& batch, const PagedKvView& kv,
                                     int64_t num_query_rows);

/// Some tokens of one sequence and one KV head; its rows are the tokens' heads of the group.
struct RowTile {
  const SequenceRows* sequence;
  int64_t first_row, num_tokens, kv_head;
};

/// All rows of the sequences for all KV heads, in tiles of about `num_rows` rows. The tiles point
/// into `sequences`.
std::vector<RowTile> make_row_tiles(const std::vector<SequenceRows>& sequences,
                                    int64_t num_kv_heads, int64_t group_size, int64_t num_rows);

/// Scratch of one tile of packed keys, of values as f32, and of some query rows against it. One
/// per thread.
struct TileScratch {
  explicit TileScratch(int64_t head_dim, int64_t max_rows);

  /// Loads keys and values of tokens [first, first + num_keys) of a block.
  void load_block(const PagedKvView& kv, int64_t block, int64_t kv_head, int64_t first,
                  int64_t num_keys);
  /// Loads query row (row, head) as scratch row r.
  void load_query(const ConstTensorView& query, int64_t row, int64_t head, int64_t r);

  int64_t head_dim;
  int64_t stride;               // padded head_dim
  std::vector<float> keys;      // packed
  std::vector<float> values;    // [kTileKeys, stride]
  std::vector<float> query;     // [max_rows, query_stride(head_dim)], packed
  std::vector<float> scores;    // [max_rows, kTileKeys]
  std::vector<int32_t> limits;  // [max_rows]
};

}  // namespace quire::cpu
