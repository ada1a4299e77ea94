#include "kernels/cpu/gate_few_rows.h"

#include <algorithm>
#include <bit>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_rows.h"

namespace quire::cpu {
namespace {

constexpr int64_t kMaxTilesPerItem = 4;  // key tiles

/// Where the centroids of a key tile lie, those of the first KV head.
void point_at_centroids(const MobaGateParams& params, const SequenceRows& sequence, int64_t first,
                        int64_t count, const BFloat16** centroids) {
  const ConstTensorView& all = params.kv.centroids;
  for (int64_t j = 0; j < count; ++j) {
    centroids[j] =
        static_cast<const BFloat16*>(all.data) + sequence.block_table[first + j] * all.stride[0];
  }
}

}  // namespace

bool has_few_rows(const MobaGateParams& params, const RowTile& tile) {
  return scores_in_place(TileRows(params, tile).size(), params.kv.digest_dim());
}

FewRowsGate::FewRowsGate(const MobaGateParams& params, const std::vector<RowTile>& tiles)
    : params_(params),
      tiles_(tiles),
      num_kv_heads_(static_cast<size_t>(params.kv.num_kv_heads())),
      num_threads_(static_cast<size_t>(num_loop_threads())),
      tops_(tiles.size() * num_threads_) {
  for (size_t t = 0; t < tiles.size(); t += num_kv_heads_) {
    const int64_t num_blocks = TileRows(params, tiles[t]).num_scored_blocks();
    constexpr int64_t kStep = kMaxTilesPerItem * kTileKeys;
    // The newest first: what a row keeps is more often near it.
    for (int64_t first = (num_blocks - 1) / kStep * kStep; first >= 0 && num_blocks > 0;
         first -= kStep) {
      items_.push_back({t, first, std::min(first + kStep, num_blocks)});
    }
  }
}

RunningTops& FewRowsGate::own_tops(size_t tile) {
  auto& tops = tops_[tile * num_threads_ + static_cast<size_t>(loop_thread())];
  if (!tops) tops.emplace(TileRows(params_, tiles_[tile]).size(), tiles_[tile].sequence->top_k - 1);
  return *tops;
}

void FewRowsGate::scan() {
  parallel_for_runs(static_cast<int64_t>(items_.size()),
                    [&](int64_t i) { scan(items_[static_cast<size_t>(i)]); });
}

/// [kv_heads, rows of a tile, query_stride]
const float* FewRowsGate::pack_queries(size_t first_tile) const {
  thread_local Scratch<float> scratch;
  thread_local Scratch<BFloat16> expanded;
  const int64_t digest_dim = params_.kv.digest_dim(), stride = query_stride(digest_dim);
  const int64_t num_rows = TileRows(params_, tiles_[first_tile]).size();
  float* queries = scratch.reserve(num_kv_heads_ * static_cast<size_t>(num_rows * stride));
  float* to = queries;
  for (size_t g = 0; g < num_kv_heads_; ++g) {
    const TileRows rows(params_, tiles_[first_tile + g]);
    for (int64_t r = 0; r < num_rows; ++r, to += stride) {
      pack_query(gate_query(params_, rows, r, expanded), digest_dim, to);
    }
  }
  return queries;
}

void FewRowsGate::scan(const Item& item) {
  const SequenceRows& sequence = *tiles_[item.first_tile].sequence;
  const int64_t digest_dim = params_.kv.digest_dim(), stride = query_stride(digest_dim);
  const TileRows first_rows(params_, tiles_[item.first_tile]);
  const int64_t num_rows = first_rows.size();
  const float* queries = pack_queries(item.first_tile);
  const BFloat16 *centroids[kTileKeys], *upcoming[kTileKeys];
  const int64_t last = (item.end_block - 1) / kTileKeys * kTileKeys;
  point_at_centroids(params_, sequence, last, item.end_block - last, upcoming);
  for (int64_t first = last; first >= item.first_block; first -= kTileKeys) {
    const int64_t count = std::min(kTileKeys, item.end_block - first);
    std::copy_n(upcoming, count, centroids);
    // Most often the next item is this thread's too.
    if (first > 0) {
      point_at_centroids(params_, sequence, first - kTileKeys, kTileKeys, upcoming);
    }
    for (size_t g = 0; g < num_kv_heads_; ++g) {
      RunningTops& tops = own_tops(item.first_tile + g);
      alignas(64) float scores[kMaxFewRows * kTileKeys];
      uint64_t masks[kMaxFewRows];
      score_above_in_place({.query = queries + static_cast<int64_t>(g) * num_rows * stride,
                            .num_rows = num_rows,
                            .head_dim = digest_dim,
                            .keys = centroids,
                            .upcoming = upcoming,
                            .offset = static_cast<int64_t>(g) * params_.kv.centroids.stride[1],
                            .num_keys = count,
                            .thresholds = tops.thresholds()},
                           scores, masks);
      for (int64_t r = 0; r < num_rows; ++r) {
        const int64_t num_visible = std::min(count, first_rows.current_block(r) - first);
        for (uint64_t mask = masks[r] & first_bits(num_visible); mask != 0; mask &= mask - 1) {
          const int j = std::countr_zero(mask);
          tops.offer(r, sort_key(scores[r * kTileKeys + j], first + j));
        }
      }
    }
  }
}

std::span<const uint64_t> FewRowsGate::keys(size_t tile, int64_t r) {
  RunningTops* all = nullptr;
  for (size_t thread = 0; thread < num_threads_; ++thread) {
    auto& part = tops_[tile * num_threads_ + thread];
    if (!part) continue;
    if (all == nullptr) {
      all = &*part;
      continue;
    }
    for (const uint64_t key : part->keys(r)) all->offer(r, key);
  }
  return all == nullptr ? std::span<const uint64_t>() : all->keys(r);
}

}  // namespace quire::cpu
