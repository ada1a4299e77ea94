#include <algorithm>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/kv_tile.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/softmax_states.h"

// A tile of rows goes over the keys in ascending order with a running softmax; every tile of keys
// is packed once for hundreds of rows. Keys are cut at fixed places, into tiles within each block
// and into segments of blocks; each segment starts a softmax of its own, which is then folded into
// that of the segments before it. So a row's arithmetic depends on its own position alone, and
// where there are few rows (decode) the segments can go to different threads.
//
// A window begins inside of some tile: there each token attends by itself to the rest of the tile
// from its own first key on, and to all later tiles together with the other tokens. Keys that a row
// does not see leave its state as it is, so it does not matter whether a tile of rows visits them.

namespace quire::cpu {
namespace {

constexpr int64_t kMinSegmentKeys = 1024;
constexpr int64_t kMinTileRows = 48;
constexpr int64_t kMaxTileRows = 512;  // their state and queries stay in the second cache
constexpr int64_t kItemsPerThread = 4;
constexpr int64_t kMaxPartBytes = int64_t{32} << 20;

/// One row tile and what it needs to know of the op.
class TileAttention {
 public:
  TileAttention(const FullAttentionParams& params, const RowTile& tile)
      : params_(params),
        tile_(tile),
        group_size_(params.query.shape[1] / params.kv.num_kv_heads()),
        head_dim_(params.kv.head_dim()),
        first_position_(tile.sequence->first_position + tile.first_row - tile.sequence->first_row),
        segment_keys_((kMinSegmentKeys + params.kv.block_size() - 1) / params.kv.block_size() *
                      params.kv.block_size()) {}

  int64_t num_rows() const { return tile_.num_tokens * group_size_; }
  /// The first segment of which some row sees a key.
  int64_t first_segment() const { return first_key_of(0) / segment_keys_; }
  int64_t num_segments() const { return (end_position() + segment_keys_ - 1) / segment_keys_; }

  /// The rows' state over segments [begin, end).
  void attend(int64_t begin, int64_t end, const SoftmaxRows& state) const {
    thread_local Scratch<float> query_scratch;
    thread_local SoftmaxStates part_states;
    float* query = query_scratch.reserve(static_cast<size_t>(num_rows() * query_stride(head_dim_)));
    for (int64_t r = 0; r < num_rows(); ++r) {
      pack_query(reinterpret_cast<const BFloat16*>(address(params_.query, token_row(r), head(r))),
                 head_dim_, query + r * query_stride(head_dim_));
    }
    for (int64_t segment = begin; segment < end; ++segment) {
      if (segment == begin) {
        attend_segment(segment, query, state);
        continue;
      }
      const SoftmaxRows part = part_states.reserve(num_rows(), head_dim_);
      attend_segment(segment, query, part);
      fold_states(part, num_rows(), head_dim_, state);
    }
  }

  void write(const SoftmaxRows& state) const {
    const int64_t stride = padded_dim(head_dim_);
    for (int64_t r = 0; r < num_rows(); ++r) {
      float* row = state.out + r * stride;
      for (int64_t i = 0; i < head_dim_; ++i) row[i] /= state.sum[r];
      write_row(row, head_dim_, params_.out.dtype, address(params_.out, token_row(r), head(r)));
    }
  }

 private:
  int64_t end_position() const { return first_position_ + tile_.num_tokens; }
  /// The first key that the tile's token sees.
  int64_t first_key_of(int64_t token) const {
    if (params_.window == 0) return 0;
    return std::max<int64_t>(0, first_position_ + token - params_.window + 1);
  }
  int64_t token_row(int64_t r) const { return tile_.first_row + r / group_size_; }
  int64_t head(int64_t r) const { return tile_.kv_head * group_size_ + r % group_size_; }

  void attend_segment(int64_t segment, const float* query, const SoftmaxRows& state) const {
    thread_local KvTile keys;
    keys.reserve(head_dim_);
    const int64_t block_size = params_.kv.block_size();
    const int64_t end = std::min((segment + 1) * segment_keys_, end_position());
    for (int64_t start = segment * segment_keys_; start < end; start += block_size) {
      const int64_t block = tile_.sequence->block_table[start / block_size];
      for (int64_t offset = 0; offset < block_size; offset += kTileKeys) {
        const int64_t num_keys =
            std::min({kTileKeys, block_size - offset, end_position() - start - offset});
        if (num_keys <= 0) break;
        const bool is_first = start + offset == segment * segment_keys_;
        if (!is_first && start + offset + num_keys <= first_key_of(0)) continue;
        const bool is_last = offset + kTileKeys >= block_size;
        const int64_t next = std::min(start + (is_last ? block_size : 0), end_position() - 1);
        keys.load(params_.kv, {block, tile_.kv_head, offset}, num_keys,
                  {tile_.sequence->block_table[next / block_size], tile_.kv_head,
                   is_last ? 0 : offset + kTileKeys});
        attend_keys(keys, start + offset, num_keys, is_first, query, state);
        if (params_.window > 0) attend_edges(keys, start + offset, num_keys, query, state);
      }
    }
  }

  /// The tokens whose window begins inside of this tile of keys, behind its first.
  void attend_edges(KvTile& keys, int64_t first_key, int64_t num_keys, const float* query,
                    const SoftmaxRows& state) const {
    const int64_t block_size = params_.kv.block_size();
    for (int64_t token = 0; token < tile_.num_tokens; ++token) {
      const int64_t first = first_key_of(token);
      if (first <= first_key) continue;
      const int64_t end = std::min(first_key + num_keys, first_position_ + token + 1);
      if (first >= end) break;
      const TilePlace place{tile_.sequence->block_table[first / block_size], tile_.kv_head,
                            first % block_size};
      keys.load(params_.kv, place, end - first, place);
      thread_local std::vector<int32_t> limits;
      limits.assign(static_cast<size_t>(group_size_), static_cast<int32_t>(end - first));
      const int64_t row = token * group_size_;
      keys.attend({.num_rows = group_size_,
                   .query = query + row * query_stride(head_dim_),
                   .limits = limits.data(),
                   .softmax_scale = params_.softmax_scale,
                   .is_first = false,
                   .state = from_row(state, row, head_dim_)});
    }
  }

  void attend_keys(KvTile& keys, int64_t first_key, int64_t num_keys, bool is_first,
                   const float* query, const SoftmaxRows& state) const {
    thread_local std::vector<int32_t> limits;
    limits.assign(static_cast<size_t>(num_rows()), static_cast<int32_t>(num_keys));
    const bool all_visible = first_key + num_keys <= first_position_ + 1 &&
                             first_key_of(tile_.num_tokens - 1) <= first_key;
    for (int64_t r = 0; r < num_rows() && !all_visible; ++r) {
      const int64_t token = r / group_size_;
      const int64_t limit =
          std::clamp<int64_t>(first_position_ + token + 1 - first_key, 0, num_keys);
      limits[static_cast<size_t>(r)] =
          first_key_of(token) > first_key ? 0 : static_cast<int32_t>(limit);
    }
    keys.attend({.num_rows = num_rows(),
                 .query = query,
                 .limits = limits.data(),
                 .softmax_scale = params_.softmax_scale,
                 .is_first = is_first,
                 .state = state});
  }

  const FullAttentionParams& params_;
  const RowTile& tile_;
  int64_t group_size_, head_dim_, first_position_, segment_keys_;
};

void attend_whole_tiles(const FullAttentionParams& params, const std::vector<RowTile>& tiles) {
  const auto num_tiles = static_cast<int64_t>(tiles.size());
  // Backwards: the tiles with the most keys first, so that threads end together.
  parallel_for(num_tiles, 1, [&](int64_t i) {
    const TileAttention tile(params, tiles[static_cast<size_t>(num_tiles - 1 - i)]);
    thread_local SoftmaxStates states;
    const SoftmaxRows state = states.reserve(tile.num_rows(), params.kv.head_dim());
    tile.attend(tile.first_segment(), tile.num_segments(), state);
    tile.write(state);
  });
}

/// One segment of a row tile's keys.
struct Part {
  int64_t tile, segment;
  int64_t state_row;  // of the parts' states
};

/// The parts of every tile, side by side. Their states have `num_state_rows` rows.
std::vector<Part> list_parts(const FullAttentionParams& params, const std::vector<RowTile>& tiles,
                             int64_t& num_state_rows) {
  std::vector<Part> parts;
  num_state_rows = 0;
  for (size_t t = 0; t < tiles.size(); ++t) {
    const TileAttention tile(params, tiles[t]);
    for (int64_t segment = tile.first_segment(); segment < tile.num_segments(); ++segment) {
      parts.push_back({static_cast<int64_t>(t), segment, num_state_rows});
      num_state_rows += tile.num_rows();
    }
  }
  return parts;
}

void attend_parts(const FullAttentionParams& params, const std::vector<RowTile>& tiles,
                  const std::vector<Part>& parts, int64_t num_state_rows) {
  const int64_t head_dim = params.kv.head_dim();
  thread_local SoftmaxStates states;
  const SoftmaxRows state = states.reserve(num_state_rows, head_dim);
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t i) {
    const Part& part = parts[static_cast<size_t>(i)];
    TileAttention(params, tiles[static_cast<size_t>(part.tile)])
        .attend(part.segment, part.segment + 1, from_row(state, part.state_row, head_dim));
  });
  std::vector<size_t> first_parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i == 0 || parts[i].tile != parts[i - 1].tile) first_parts.push_back(i);
  }
  parallel_for(static_cast<int64_t>(tiles.size()), 4, [&](int64_t t) {
    const TileAttention tile(params, tiles[static_cast<size_t>(t)]);
    size_t i = first_parts[static_cast<size_t>(t)];
    const SoftmaxRows whole = from_row(state, parts[i].state_row, head_dim);
    for (++i; i < parts.size() && parts[i].tile == t; ++i) {
      fold_states(from_row(state, parts[i].state_row, head_dim), tile.num_rows(), head_dim, whole);
    }
    tile.write(whole);
  });
}

}  // namespace

void full_attention(const FullAttentionParams& params) {
  const std::vector<SequenceRows> sequences =
      read_batch(params.batch, params.kv, params.query.shape[0]);
  if (sequences.empty()) return;
  const int64_t num_kv_heads = params.kv.num_kv_heads();
  const int64_t group_size = params.query.shape[1] / num_kv_heads;
  const int64_t num_wanted = kItemsPerThread * num_loop_threads();
  const int64_t num_rows =
      (sequences.back().end_row - sequences.front().first_row) * params.query.shape[1];
  const std::vector<RowTile> tiles =
      make_row_tiles(sequences, num_kv_heads, group_size,
                     std::clamp(num_rows / num_wanted, kMinTileRows, kMaxTileRows));
  if (static_cast<int64_t>(tiles.size()) < num_wanted) {
    int64_t num_state_rows = 0;
    const std::vector<Part> parts = list_parts(params, tiles, num_state_rows);
    if (num_state_rows * softmax_row_bytes(params.kv.head_dim()) <= kMaxPartBytes) {
      return attend_parts(params, tiles, parts, num_state_rows);
    }
  }
  attend_whole_tiles(params, tiles);
}

}  // namespace quire::cpu
