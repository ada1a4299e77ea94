#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

// Scores of a tile of rows against a tile of centroids, folded into a running top-k per row: the
// scores of a million-token document are never all there at once. Centroids of a tile are widened
// once and used by all rows of the tile.

namespace quire::cpu {
namespace {

constexpr int64_t kTileRows = 64;

/// One order for scores and ties: monotone f32 bits above, block index below. NaN sorts as -inf.
uint64_t sort_key(float score, int64_t logical_block) {
  if (score != score) score = -std::numeric_limits<float>::infinity();
  if (score == 0.0f) score = 0.0f;  // -0 and +0 tie
  const auto bits = std::bit_cast<uint32_t>(score);
  const uint32_t monotone = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(monotone) << 32 | static_cast<uint32_t>(logical_block);
}

/// The largest `capacity` keys seen, ascending.
class RunningTop {
 public:
  void reset(size_t capacity) {
    keys_.clear();
    capacity_ = capacity;
  }
  void offer(uint64_t key) {
    if (keys_.size() == capacity_) {
      if (key < keys_.front()) return;
      keys_.erase(keys_.begin());
    }
    keys_.insert(std::upper_bound(keys_.begin(), keys_.end(), key), key);
  }
  const std::vector<uint64_t>& keys() const { return keys_; }

 private:
  std::vector<uint64_t> keys_;
  size_t capacity_ = 0;
};

/// Some tokens of one sequence and one KV head; its rows are the tokens' heads of the group.
struct RowTile {
  const SequenceRows* sequence;
  int64_t first_row, num_tokens, kv_head;
};

class GateTile {
 public:
  GateTile(const MobaGateParams& params, const RowTile& tile)
      : params_(params),
        tile_(tile),
        group_size_(params.query.shape[1] / params.kv.num_kv_heads()),
        scratch_(params.kv.head_dim(), tile.num_tokens * group_size_) {}

  void run() {
    const int64_t num_rows = tile_.num_tokens * group_size_;
    tops_.resize(static_cast<size_t>(num_rows));
    for (RunningTop& top : tops_) top.reset(static_cast<size_t>(tile_.sequence->top_k - 1));
    const int64_t last_current = current_block(num_rows - 1);
    const int64_t top_k = tile_.sequence->top_k;
    if (last_current > top_k - 1 && top_k > 1) score_history(num_rows, last_current);
    for (int64_t r = 0; r < num_rows; ++r) write_selection(r);
  }

 private:
  int64_t token_row(int64_t r) const { return tile_.first_row + r / group_size_; }
  int64_t head(int64_t r) const { return tile_.kv_head * group_size_ + r % group_size_; }
  int64_t current_block(int64_t r) const {
    const int64_t position =
        tile_.sequence->first_position + token_row(r) - tile_.sequence->first_row;
    return position / params_.kv.block_size();
  }

  void score_history(int64_t num_rows, int64_t num_history) {
    for (int64_t r = 0; r < num_rows; ++r) {
      scratch_.load_query(params_.query, token_row(r), head(r), r);
    }
    for (int64_t first = 0; first < num_history; first += kTileKeys) {
      const int64_t count = std::min(kTileKeys, num_history - first);
      const BFloat16* centroids[kTileKeys];
      for (int64_t j = 0; j < count; ++j) {
        centroids[j] = reinterpret_cast<const BFloat16*>(
            address(params_.kv.centroids, tile_.sequence->block_table[first + j], tile_.kv_head));
      }
      transpose_keys(centroids, count, scratch_.head_dim, scratch_.keys.data());
      score_tile(scratch_.query.data(), num_rows, scratch_.head_dim, scratch_.keys.data(),
                 scratch_.scores.data());
      for (int64_t r = 0; r < num_rows; ++r) {
        const float* scores = scratch_.scores.data() + r * kTileKeys;
        const int64_t end = std::min(count, current_block(r) - first);
        for (int64_t j = 0; j < end; ++j) {
          tops_[static_cast<size_t>(r)].offer(sort_key(scores[j], first + j));
        }
      }
    }
  }

  void write_selection(int64_t r) {
    const int64_t current = current_block(r), top_k = tile_.sequence->top_k;
    const int64_t max_top_k = params_.selected.shape[2];
    auto* out = reinterpret_cast<int32_t*>(address(params_.selected, token_row(r), head(r)));
    int64_t count = 0;
    if (current <= top_k - 1) {
      for (; count < current; ++count) out[count] = static_cast<int32_t>(count);
    } else {
      for (const uint64_t key : tops_[static_cast<size_t>(r)].keys()) {
        out[count++] = static_cast<int32_t>(key & 0xFFFFFFFFu);
      }
      std::sort(out, out + count);
    }
    out[count++] = static_cast<int32_t>(current);
    std::fill(out + count, out + max_top_k, -1);
  }

  const MobaGateParams& params_;
  const RowTile& tile_;
  int64_t group_size_;
  TileScratch scratch_;
  std::vector<RunningTop> tops_;
};

}  // namespace

void moba_gate(const MobaGateParams& params) {
  std::vector<SequenceRows> sequences = read_batch(params.batch, params.kv, params.query.shape[0]);
  const int32_t* top_k = params.top_k.data_as<int32_t>();
  const int64_t group_size = params.query.shape[1] / params.kv.num_kv_heads();
  const int64_t tokens_per_tile = std::max<int64_t>(kTileRows / group_size, 1);
  std::vector<RowTile> tiles;
  for (size_t s = 0; s < sequences.size(); ++s) {
    SequenceRows& sequence = sequences[s];
    sequence.top_k = top_k[s];
    QUIRE_CHECK(sequence.top_k >= 1 && sequence.top_k <= params.selected.shape[2])
        << "top_k " << sequence.top_k << " of " << params.selected.shape[2];
    for (int64_t row = sequence.first_row; row < sequence.end_row; row += tokens_per_tile) {
      const int64_t num_tokens = std::min(tokens_per_tile, sequence.end_row - row);
      for (int64_t g = 0; g < params.kv.num_kv_heads(); ++g) {
        tiles.push_back({&sequence, row, num_tokens, g});
      }
    }
  }
  parallel_for(static_cast<int64_t>(tiles.size()), 1,
               [&](int64_t i) { GateTile(params, tiles[static_cast<size_t>(i)]).run(); });
}

}  // namespace quire::cpu
