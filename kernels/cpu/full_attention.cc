#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

// Query-tile-major: a tile of rows goes over the keys in ascending order with a running softmax.
// Tiles of keys start at fixed places of each block, so a row's arithmetic depends on its own
// position alone.

namespace quire::cpu {
namespace {

constexpr int64_t kTileRows = 64;

void attend_rows(const FullAttentionParams& params, const RowTile& tile) {
  const PagedKvView& kv = params.kv;
  const int64_t group_size = params.query.shape[1] / kv.num_kv_heads();
  const int64_t head_dim = kv.head_dim(), stride = padded_dim(head_dim);
  const int64_t num_rows = tile.num_tokens * group_size;
  const int64_t first_position =
      tile.sequence->first_position + tile.first_row - tile.sequence->first_row;
  TileScratch scratch(head_dim, num_rows);
  std::vector<float> max(static_cast<size_t>(num_rows), -std::numeric_limits<float>::infinity());
  std::vector<float> sum(static_cast<size_t>(num_rows), 0.0f);
  std::vector<float> out(static_cast<size_t>(num_rows * stride), 0.0f);
  const auto token_row = [&](int64_t r) { return tile.first_row + r / group_size; };
  const auto head = [&](int64_t r) { return tile.kv_head * group_size + r % group_size; };
  for (int64_t r = 0; r < num_rows; ++r) scratch.load_query(params.query, token_row(r), head(r), r);

  const int64_t end_position = first_position + tile.num_tokens;
  for (int64_t block_start = 0; block_start < end_position; block_start += kv.block_size()) {
    const int64_t block = tile.sequence->block_table[block_start / kv.block_size()];
    for (int64_t offset = 0; offset < kv.block_size(); offset += kTileKeys) {
      const int64_t first_key = block_start + offset;
      const int64_t num_keys =
          std::min({kTileKeys, kv.block_size() - offset, end_position - first_key});
      if (num_keys <= 0) break;
      scratch.load_block(kv, block, tile.kv_head, offset, num_keys);
      for (int64_t r = 0; r < num_rows; ++r) {
        const int64_t position = first_position + r / group_size;
        scratch.limits[static_cast<size_t>(r)] =
            static_cast<int32_t>(std::clamp<int64_t>(position + 1 - first_key, 0, num_keys));
      }
      score_tile(scratch.query.data(), num_rows, head_dim, scratch.keys.data(),
                 scratch.scores.data());
      attend_tile({.num_rows = num_rows,
                   .head_dim = head_dim,
                   .limits = scratch.limits.data(),
                   .values = scratch.values.data(),
                   .softmax_scale = params.softmax_scale,
                   .scores = scratch.scores.data(),
                   .state = {max.data(), sum.data(), out.data()}});
    }
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    float* row = out.data() + r * stride;
    for (int64_t i = 0; i < head_dim; ++i) row[i] /= sum[static_cast<size_t>(r)];
    write_row(row, head_dim, params.out.dtype, address(params.out, token_row(r), head(r)));
  }
}

}  // namespace

void full_attention(const FullAttentionParams& params) {
  const std::vector<SequenceRows> sequences =
      read_batch(params.batch, params.kv, params.query.shape[0]);
  const int64_t group_size = params.query.shape[1] / params.kv.num_kv_heads();
  const std::vector<RowTile> tiles =
      make_row_tiles(sequences, params.kv.num_kv_heads(), group_size, kTileRows);
  parallel_for(static_cast<int64_t>(tiles.size()), 1,
               [&](int64_t i) { attend_rows(params, tiles[static_cast<size_t>(i)]); });
}

}  // namespace quire::cpu
