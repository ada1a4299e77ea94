#include "kernels/cpu/batch_rows.h"

#include <algorithm>

namespace quire::cpu {

std::vector<SequenceRows> read_batch(const RaggedBatchView& batch, const PagedKvView& kv,
                                     int64_t num_query_rows) {
  const int32_t* bounds = batch.cu_query_lens.data_as<int32_t>();
  const int32_t* kv_lens = batch.kv_lens.data_as<int32_t>();
  std::vector<SequenceRows> sequences;
  for (int64_t s = 0; s < batch.num_seqs(); ++s) {
    SequenceRows rows{
        .first_row = bounds[s],
        .end_row = bounds[s + 1],
        .first_position = kv_lens[s] - (bounds[s + 1] - bounds[s]),
        .block_table = reinterpret_cast<const int32_t*>(address(batch.block_tables, s))};
    QUIRE_CHECK(rows.first_row >= 0 && rows.first_row <= rows.end_row &&
                rows.end_row <= num_query_rows && rows.first_position >= 0)
        << "sequence " << s << ": rows [" << rows.first_row << ", " << rows.end_row << ") of "
        << num_query_rows << ", kv_len " << kv_lens[s];
    const int64_t num_blocks = (kv_lens[s] + kv.block_size() - 1) / kv.block_size();
    QUIRE_CHECK(num_blocks <= batch.block_tables.shape[1])
        << "sequence " << s << ": " << num_blocks << " blocks in a table of "
        << batch.block_tables.shape[1];
    // A long context has tens of thousands of blocks and every op of every layer comes here: one
    // comparison that vectorises (a negative id is a large one), and a name only for an error.
    uint32_t largest = 0;
    for (int64_t i = 0; i < num_blocks; ++i) {
      largest = std::max(largest, static_cast<uint32_t>(rows.block_table[i]));
    }
    for (int64_t i = 0; i < num_blocks && largest >= kv.num_blocks(); ++i) {
      QUIRE_CHECK(rows.block_table[i] >= 0 && rows.block_table[i] < kv.num_blocks())
          << "sequence " << s << ", block " << i << ": id " << rows.block_table[i];
    }
    sequences.push_back(rows);
  }
  return sequences;
}

std::vector<RowTile> make_row_tiles(const std::vector<SequenceRows>& sequences,
                                    int64_t num_kv_heads, int64_t group_size, int64_t num_rows) {
  const int64_t tokens_per_tile = std::max<int64_t>(num_rows / group_size, 1);
  std::vector<RowTile> tiles;
  for (const SequenceRows& sequence : sequences) {
    for (int64_t row = sequence.first_row; row < sequence.end_row; row += tokens_per_tile) {
      const int64_t num_tokens = std::min(tokens_per_tile, sequence.end_row - row);
      for (int64_t g = 0; g < num_kv_heads; ++g) tiles.push_back({&sequence, row, num_tokens, g});
    }
  }
  return tiles;
}

}  // namespace quire::cpu
