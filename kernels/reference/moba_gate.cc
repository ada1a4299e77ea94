#include "kernels/ops/moba_gate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {
namespace {

struct ScoredBlock {
  float score;
  int32_t logical_block;
};

/// Larger score first; equal scores: the more recent block first.
bool ranks_before(const ScoredBlock& a, const ScoredBlock& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.logical_block > b.logical_block;
}

std::vector<ScoredBlock> score_history(const MobaGateParams& params, int64_t seq, int64_t row,
                                       int64_t head, int64_t num_history) {
  const int64_t group_size = params.query.shape[1] / params.kv.num_kv_heads();
  std::vector<ScoredBlock> scored;
  for (int64_t i = 0; i < num_history; ++i) {
    const int64_t block = get<int32_t>(params.batch.block_tables, seq, i);
    QUIRE_CHECK(block >= 0 && block < params.kv.num_blocks()) << "block id " << block;
    double sum = 0;
    for (int64_t d = 0; d < params.kv.head_dim(); ++d) {
      sum += static_cast<double>(load(params.query, row, head, d)) *
             static_cast<double>(load(params.kv.centroids, block, head / group_size, d));
    }
    const float score =
        std::isnan(sum) ? -std::numeric_limits<float>::infinity() : static_cast<float>(sum);
    scored.push_back({score, static_cast<int32_t>(i)});
  }
  return scored;
}

}  // namespace

void moba_gate(const MobaGateParams& params) {
  const int64_t max_top_k = params.selected.shape[2];
  for_each_query_row(params.batch, [&](int64_t seq, int64_t row, int64_t position) {
    const int64_t top_k = get<int32_t>(params.top_k, seq);
    QUIRE_CHECK(top_k >= 1 && top_k <= max_top_k) << "top_k " << top_k << " of " << max_top_k;
    const int64_t current = position / params.kv.block_size();
    for (int64_t head = 0; head < params.query.shape[1]; ++head) {
      std::vector<int32_t> chosen;
      if (current <= top_k - 1) {
        for (int64_t i = 0; i < current; ++i) chosen.push_back(static_cast<int32_t>(i));
      } else {
        std::vector<ScoredBlock> scored = score_history(params, seq, row, head, current);
        std::sort(scored.begin(), scored.end(), ranks_before);
        for (int64_t i = 0; i < top_k - 1; ++i) {
          chosen.push_back(scored[static_cast<size_t>(i)].logical_block);
        }
        std::sort(chosen.begin(), chosen.end());
      }
      chosen.push_back(static_cast<int32_t>(current));
      chosen.resize(static_cast<size_t>(max_top_k), -1);
      auto* out = static_cast<int32_t*>(params.selected.data);
      for (int64_t slot = 0; slot < max_top_k; ++slot) {
        out[offset_of(params.selected, row, head, slot)] = chosen[static_cast<size_t>(slot)];
      }
    }
  });
}

}  // namespace quire::reference
