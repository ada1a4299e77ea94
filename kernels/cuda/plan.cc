#include "kernels/cuda/plan.h"

#include <algorithm>
#include <string>

#include "kernels/backend.h"

namespace quire::cuda {
namespace {

// Partials are numbered by 32-bit integers.
constexpr int64_t kMaxPairs = int64_t{1} << 30;

// A launch's grid has at most so many tiles of rows.
constexpr int64_t kMaxRowsOfProduct = int64_t{65'535} * kTileRows;

/// The largest number of rows, up to `num_rows`, whose plan fits. `plan_of(rows)` grows with rows.
template <class PlanOf>
auto fit(const char* op, int64_t num_rows, int64_t max_rows, size_t scratch_bytes,
         const PlanOf& plan_of) {
  const auto smallest = plan_of(int64_t{1});
  if (smallest.total_bytes > scratch_bytes || max_rows < 1) {
    throw DeviceError(std::string(op) + ": one row needs " + std::to_string(smallest.total_bytes) +
                      " bytes of scratch memory; there are " + std::to_string(scratch_bytes));
  }
  int64_t fits = 1, too_many = std::min(std::max<int64_t>(num_rows, 1), max_rows) + 1;
  while (fits + 1 < too_many) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (plan_of(middle).total_bytes <= scratch_bytes ? fits : too_many) = middle;
  }
  return plan_of(fits);
}

MobaAttentionPlan moba_attention_pass(const AttentionSizes& sizes, int64_t rows) {
  MobaAttentionPlan plan;
  plan.rows_per_pass = rows;
  plan.max_pairs = rows * sizes.num_heads * sizes.num_slots;
  plan.max_touched = std::min(plan.max_pairs, sizes.num_buckets);
  plan.max_tiles = std::min(plan.max_pairs, plan.max_pairs / kTileRows + plan.max_touched);
  ScratchLayout layout;
  plan.partial_out = layout.add<float>(plan.max_pairs * sizes.head_dim);
  plan.partial_state = layout.add<float>(plan.max_pairs * 2);
  plan.ranks = layout.add<int32_t>(plan.max_pairs);
  plan.rows = layout.add<RoutedRow>(plan.max_pairs);
  plan.touched = layout.add<int32_t>(plan.max_touched);
  plan.tiles = layout.add<RoutedTile>(plan.max_tiles);
  plan.offsets = layout.add<int32_t>(sizes.num_buckets);
  // Neighbours, so that one call zeroes both.
  plan.counts = layout.add<int32_t>(sizes.num_buckets);
  plan.cursors = layout.add<RoutingCursors>(1);
  plan.total_bytes = layout.used_bytes();
  return plan;
}

}  // namespace

MobaAttentionPlan plan_moba_attention(const AttentionSizes& sizes, size_t scratch_bytes) {
  const int64_t max_rows = kMaxPairs / std::max<int64_t>(sizes.num_heads * sizes.num_slots, 1);
  return fit("moba_attention", sizes.num_rows, max_rows, scratch_bytes,
             [&](int64_t rows) { return moba_attention_pass(sizes, rows); });
}

int64_t max_runs_of_row(int64_t max_kv_len, int64_t window) {
  const auto runs_of = [](int64_t tokens) { return ceil_div(tokens, kFullRunTokens); };
  const int64_t all = runs_of(std::max<int64_t>(max_kv_len, 1));
  // Of the tokens before its own it may see the last one of a run.
  return window == 0 ? all : std::min(all, runs_of(window - 1) + 1);
}

FullAttentionPlan plan_full_attention(const AttentionSizes& sizes, size_t scratch_bytes) {
  const int64_t per_row = sizes.num_heads * sizes.num_slots;
  return fit("full_attention", sizes.num_rows, kMaxPairs / std::max<int64_t>(per_row, 1),
             scratch_bytes, [&](int64_t rows) {
               FullAttentionPlan plan;
               plan.rows_per_pass = rows;
               ScratchLayout layout;
               plan.partial_out = layout.add<float>(rows * per_row * sizes.head_dim);
               plan.partial_state = layout.add<float>(rows * per_row * 2);
               plan.total_bytes = layout.used_bytes();
               return plan;
             });
}

Int8RowsPlan place_int8_rows(int64_t num_rows, int64_t pitch) {
  Int8RowsPlan plan;
  plan.num_rows = num_rows;
  ScratchLayout layout;
  plan.values = layout.add<int8_t>(num_rows * pitch);
  plan.scales = layout.add<float>(num_rows);
  plan.total_bytes = layout.used_bytes();
  return plan;
}

Int8RowsPlan plan_int8_rows(int64_t num_rows, int64_t pitch, size_t scratch_bytes) {
  return fit("matmul", num_rows, kMaxRowsOfProduct, scratch_bytes,
             [&](int64_t rows) { return place_int8_rows(rows, pitch); });
}

GatePlan plan_moba_gate(const GateSizes& sizes, size_t scratch_bytes) {
  const int64_t group_size = sizes.num_heads / sizes.num_kv_heads;
  // A prefill has tiles enough to fill the device; a decode step has one per sequence and KV head
  // and cuts its history instead. Candidates do not depend on the cut: keys are compared exactly.
  const int64_t num_tiles =
      sizes.num_kv_heads * max_packed_tiles(sizes.num_rows, group_size, sizes.num_seqs);
  const int64_t wanted = ceil_div(2 * sizes.num_multiprocessors, std::max<int64_t>(num_tiles, 1));
  const int64_t num_columns = ceil_div(std::max<int64_t>(sizes.max_history, 1), kGateColumns);
  const int64_t columns_per_split =
      ceil_div(num_columns, std::clamp(wanted, int64_t{1}, num_columns));
  return fit("moba_gate", sizes.num_rows, kMaxPairs, scratch_bytes, [&](int64_t rows) {
    GatePlan plan;
    plan.rows_per_pass = rows;
    plan.units_per_split = columns_per_split * kGateColumns;
    plan.num_splits = ceil_div(num_columns, columns_per_split);
    ScratchLayout layout;
    plan.candidates =
        layout.add<uint64_t>(rows * sizes.num_heads * plan.num_splits * sizes.max_candidates);
    plan.total_bytes = layout.used_bytes();
    return plan;
  });
}

}  // namespace quire::cuda
