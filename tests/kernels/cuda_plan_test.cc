#include "kernels/cuda/plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "kernels/backend.h"

namespace quire::cuda {
namespace {

struct Array {
  size_t offset, bytes;
};

void check_disjoint(std::vector<Array> arrays, size_t total_bytes) {
  std::ranges::sort(arrays, {}, &Array::offset);
  for (size_t i = 0; i < arrays.size(); ++i) {
    CHECK(arrays[i].offset % 256 == 0);
    const size_t end = i + 1 < arrays.size() ? arrays[i + 1].offset : total_bytes;
    CHECK(arrays[i].offset + arrays[i].bytes <= end);
  }
}

AttentionSizes llama_8b(int64_t num_rows, int64_t num_slots) {
  return {.num_rows = num_rows,
          .num_heads = 32,
          .num_kv_heads = 8,
          .head_dim = 128,
          .num_slots = num_slots,
          .num_buckets = 2048 * 8};
}

TEST_CASE("cuda plan: the arrays of moba_attention lie apart and fit the scratch memory") {
  const size_t scratch = GENERATE(size_t{1} << 22, size_t{1} << 26, size_t{1} << 30);
  const int64_t num_rows = GENERATE(1, 3, 64, 2048), num_slots = GENERATE(1, 3, 12);
  CAPTURE(scratch, num_rows, num_slots);
  const MobaAttentionPlan plan = plan_moba_attention(llama_8b(num_rows, num_slots), scratch);
  CHECK(plan.total_bytes <= scratch);
  REQUIRE(plan.rows_per_pass >= 1);
  CHECK(plan.rows_per_pass <= num_rows);
  CHECK(plan.max_pairs == plan.rows_per_pass * 32 * num_slots);
  const auto pairs = static_cast<size_t>(plan.max_pairs);
  check_disjoint({{plan.partial_out, pairs * 128 * 4},
                  {plan.partial_state, pairs * 8},
                  {plan.ranks, pairs * 4},
                  {plan.rows, pairs * 8},
                  {plan.touched, static_cast<size_t>(plan.max_touched) * 4},
                  {plan.tiles, static_cast<size_t>(plan.max_tiles) * sizeof(RoutedTile)},
                  {plan.offsets, 2048 * 8 * 4},
                  {plan.counts, 2048 * 8 * 4},
                  {plan.cursors, sizeof(RoutingCursors)}},
                 plan.total_bytes);
  // What one call zeroes must be these two and nothing behind them.
  CHECK(plan.cursors > plan.counts);
  CHECK(plan.cursors + sizeof(RoutingCursors) <= plan.total_bytes);
}

TEST_CASE("cuda plan: a row has room for every run that its window can reach") {
  const int64_t window = GENERATE(0, 1, 2, 2047, 2048, 2049, 2050, 5000, 100'000);
  CAPTURE(window);
  for (int64_t position = 0; position < 20'000; position += 7) {
    const int64_t first = window == 0 ? 0 : std::max<int64_t>(0, position - window + 1);
    const int64_t runs = position / kFullRunTokens - first / kFullRunTokens + 1;
    REQUIRE(runs <= max_runs_of_row(position + 1, window));
  }
  CHECK(max_runs_of_row(20'000, 1) == 1);
  CHECK(max_runs_of_row(20'000, 2049) == 2);
  CHECK(max_runs_of_row(20'000, 2050) == 3);
  CHECK(max_runs_of_row(1000, 0) == 1);
}

TEST_CASE("cuda plan: no distribution of pairs over buckets makes more tiles than there is room") {
  const MobaAttentionPlan plan = plan_moba_attention(llama_8b(64, 3), size_t{1} << 30);
  // As uneven as it gets: one pair in every touched bucket but the last, which has the rest.
  for (int64_t touched = 1; touched <= plan.max_touched; touched += 97) {
    const int64_t last = plan.max_pairs - (touched - 1);
    CHECK(touched - 1 + (last + 63) / 64 <= plan.max_tiles);
  }
  // And 65 in every bucket: two tiles each.
  CHECK(plan.max_pairs / 65 * 2 <= plan.max_tiles);
}

TEST_CASE("cuda plan: a pass takes as many rows as fit, and one more would not") {
  const AttentionSizes sizes = llama_8b(100'000, 8);
  const size_t scratch = size_t{256} << 20;
  const MobaAttentionPlan moba = plan_moba_attention(sizes, scratch);
  CHECK(moba.rows_per_pass < sizes.num_rows);
  AttentionSizes exact = sizes;
  exact.num_rows = moba.rows_per_pass + 1;
  CHECK(plan_moba_attention(exact, scratch).rows_per_pass == moba.rows_per_pass);
  CHECK(plan_moba_attention(exact, 2 * scratch).rows_per_pass == exact.num_rows);
  CHECK(plan_full_attention(sizes, scratch).rows_per_pass < sizes.num_rows);
  CHECK(plan_full_attention(sizes, scratch).total_bytes <= scratch);
}

TEST_CASE("cuda plan: scratch memory that holds no row is a DeviceError with both numbers") {
  using Catch::Matchers::Contains;
  CHECK_THROWS_AS(plan_moba_attention(llama_8b(1, 3), 1000), DeviceError);
  CHECK_THROWS_WITH(plan_full_attention(llama_8b(1, 3), 1000),
                    Contains("full_attention") && Contains("1000") && Contains("49"));
  CHECK_THROWS_AS(plan_moba_gate({.num_rows = 1,
                                  .num_heads = 32,
                                  .num_kv_heads = 8,
                                  .num_seqs = 1,
                                  .max_history = 100,
                                  .max_candidates = 11,
                                  .num_multiprocessors = 132},
                                 1000),
                  DeviceError);
}

TEST_CASE("cuda plan: the gate cuts a decode step's history, and covers all of it") {
  const int64_t num_rows = GENERATE(1, 8, 2048), max_history = GENERATE(0, 1, 64, 65, 8191);
  CAPTURE(num_rows, max_history);
  const GatePlan plan = plan_moba_gate({.num_rows = num_rows,
                                        .num_heads = 32,
                                        .num_kv_heads = 8,
                                        .num_seqs = num_rows == 2048 ? 1 : num_rows,
                                        .max_history = max_history,
                                        .max_candidates = 7,
                                        .num_multiprocessors = 132},
                                       size_t{1} << 28);
  CHECK(plan.units_per_split % kGateColumns == 0);
  CHECK(plan.num_splits * plan.units_per_split >= max_history);
  CHECK((plan.num_splits - 1) * plan.units_per_split <= max_history);
  if (num_rows == 2048) CHECK(plan.num_splits == 1);
  if (num_rows == 1 && max_history == 8191) CHECK(plan.num_splits >= 16);
}

}  // namespace
}  // namespace quire::cuda
