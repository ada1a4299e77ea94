#include <algorithm>
#include <vector>

#include "kernels/cpu/block_routes.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/kv_tile.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/softmax_states.h"

// Key-block-major: the (row, head, slot) routes of a pass are grouped by the block they look at,
// each block's keys and values are packed once, and all its rows are attended together. Every route
// leaves a partial result (max, sum, weighted values); partials lie in the order of the grouped
// routes, so that a block's rows write side by side. A row's partials are then merged in slot
// order, which is ascending in the block index with the current block last. A route's arithmetic
// does not depend on the others, so results do not depend on batch, chunking or grouping.

namespace quire::cpu {
namespace {

constexpr int64_t kMaxGroupRows = 512;  // their queries and partials stay in the second cache
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

/// What a pass needs; about kMaxPartialBytes at most.
struct PassScratch {
  BlockRoutes routes;
  SoftmaxStates partials;  // by place
};

class Pass {
 public:
  Pass(const MobaAttentionParams& params, int64_t first_row, PassScratch& scratch)
      : params_(params),
        routes_(scratch.routes),
        first_row_(first_row),
        num_heads_(params.query.shape[1]),
        max_top_k_(params.selected.shape[2]),
        head_dim_(params.kv.head_dim()),
        partials_(scratch.partials.reserve(routes_.num_routes(), head_dim_)) {}

  /// `upcoming`: the group that this thread will probably attend next.
  void attend(const BlockRows& group, const BlockRows& upcoming) const {
    thread_local KvTile tile;
    thread_local Scratch<float> query_scratch;
    const int64_t num_rows = group.end - group.begin;
    float* query = query_scratch.reserve(static_cast<size_t>(num_rows * query_stride(head_dim_)));
    int64_t most = 0;  // no row sees a key behind it: it may never have been written
    for (int64_t r = 0; r < num_rows; ++r) {
      const Route& route = routes_.routes()[group.begin + r];
      const int64_t row_and_head = route.index / max_top_k_;
      pack_query(
          reinterpret_cast<const BFloat16*>(address(
              params_.query, first_row_ + row_and_head / num_heads_, row_and_head % num_heads_)),
          head_dim_, query + r * query_stride(head_dim_));
      most = std::max<int64_t>(most, route.limit);
    }
    tile.reserve(head_dim_);
    for (int64_t first_key = 0; first_key < most; first_key += kTileKeys) {
      const int64_t num_keys = std::min(kTileKeys, most - first_key);
      const bool is_last = first_key + kTileKeys >= most;
      tile.load(params_.kv, {group.block, group.kv_head, first_key}, num_keys,
                is_last ? TilePlace{upcoming.block, upcoming.kv_head, 0}
                        : TilePlace{group.block, group.kv_head, first_key + kTileKeys});
      attend_tile_rows(group, tile, first_key, num_keys, query);
    }
  }

  void merge(int64_t row, int64_t head) const {
    const int64_t first = ((row - first_row_) * num_heads_ + head) * max_top_k_;
    const auto* selected = reinterpret_cast<const int32_t*>(address(params_.selected, row, head));
    int64_t num_slots = 0;
    while (num_slots < max_top_k_ && selected[num_slots] != -1) ++num_slots;
    thread_local std::vector<float> merged;
    merged.resize(static_cast<size_t>(padded_dim(head_dim_)));
    merge_partials({.places = routes_.places() + first,
                    .num_partials = num_slots,
                    .head_dim = head_dim_,
                    .state = partials_,
                    .out = merged.data()});
    write_row(merged.data(), head_dim_, params_.out.dtype, address(params_.out, row, head));
  }

 private:
  void attend_tile_rows(const BlockRows& group, KvTile& tile, int64_t first_key, int64_t num_keys,
                        const float* query) const {
    thread_local std::vector<int32_t> limits;
    limits.clear();
    for (int64_t place = group.begin; place < group.end; ++place) {
      const int64_t limit = routes_.routes()[place].limit - first_key;
      limits.push_back(static_cast<int32_t>(std::clamp<int64_t>(limit, 0, num_keys)));
    }
    tile.attend({.num_rows = group.end - group.begin,
                 .query = query,
                 .limits = limits.data(),
                 .softmax_scale = params_.softmax_scale,
                 .is_first = first_key == 0,
                 .state = from_row(partials_, group.begin, head_dim_)});
  }

  const MobaAttentionParams& params_;
  const BlockRoutes& routes_;
  int64_t first_row_, num_heads_, max_top_k_, head_dim_;
  SoftmaxRows partials_;  // by place
};

}  // namespace

void moba_attention(const MobaAttentionParams& params) {
  const std::vector<SequenceRows> sequences =
      read_batch(params.batch, params.kv, params.query.shape[0]);
  if (sequences.empty()) return;
  const int64_t num_heads = params.query.shape[1];
  const int64_t partial_bytes =
      softmax_row_bytes(params.kv.head_dim()) * num_heads * params.selected.shape[2];
  const int64_t rows_per_pass = std::max<int64_t>(kMaxPartialBytes / partial_bytes, 1);
  const int64_t last_row = sequences.back().end_row;
  thread_local PassScratch scratch;
  for (int64_t row = sequences.front().first_row; row < last_row; row += rows_per_pass) {
    const int64_t end_row = std::min(row + rows_per_pass, last_row);
    scratch.routes.build(params, sequences, row, end_row, kMaxGroupRows);
    const Pass pass(params, row, scratch);
    const std::vector<BlockRows>& groups = scratch.routes.groups();
    const auto num_groups = static_cast<int64_t>(groups.size());
    const auto attend = [&](int64_t i) {
      const int64_t upcoming = std::min(i + 1, num_groups - 1);
      pass.attend(groups[static_cast<size_t>(i)], groups[static_cast<size_t>(upcoming)]);
    };
    // Groups of few rows cost the same each: long runs of them let memory be asked ahead of time.
    if (scratch.routes.num_routes() <= kMaxFewRows * num_groups) {
      parallel_for_runs(num_groups, attend);
    } else {
      parallel_for(num_groups, 1, attend);
    }
    parallel_for((end_row - row) * num_heads, 64,
                 [&](int64_t i) { pass.merge(row + i / num_heads, i % num_heads); });
  }
}

}  // namespace quire::cpu
