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

}  // namespace quire::cpu
