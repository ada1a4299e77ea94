#include "kernels/ops/moba_gate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {
namespace {

struct ScoredUnit {
  float score;
  int64_t unit;
};

/// Larger score first; equal scores: the more recent unit first.
bool ranks_before(const ScoredUnit& a, const ScoredUnit& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.unit > b.unit;
}

/// Element d of the centroid (or other digest) of one unit of a sequence.
float load_centroid(const MobaGateParams& params, const SelectionSchedule::Rule& rule, int64_t seq,
                    int64_t unit, int64_t kv_head, int64_t d) {
  const int64_t last_block = (unit + 1) * rule.group - 1;
  const int64_t block = get<int32_t>(params.batch.block_tables, seq, last_block);
  QUIRE_CHECK(block >= 0 && block < params.kv.num_blocks()) << "block id " << block;
  return rule.stage < 0 ? load(params.kv.centroids, block, kv_head, d)
                        : load(params.kv.unit_centroids, rule.stage, block, kv_head, d);
}

std::vector<ScoredUnit> score_history(const MobaGateParams& params,
                                      const SelectionSchedule::Rule& rule, int64_t seq, int64_t row,
                                      int64_t head, int64_t num_history) {
  const int64_t kv_head = head / (params.query.shape[1] / params.kv.num_kv_heads());
  std::vector<float> query, expanded(static_cast<size_t>(params.kv.digest_dim()));
  for (int64_t d = 0; d < params.kv.head_dim(); ++d) {
    query.push_back(load(params.query, row, head, d));
  }
  expand_query(params.kv.digest, query, expanded);
  std::vector<ScoredUnit> scored;
  for (int64_t unit = 0; unit < num_history; ++unit) {
    double sum = 0;
    for (int64_t d = 0; d < params.kv.digest_dim(); ++d) {
      sum += static_cast<double>(expanded[static_cast<size_t>(d)]) *
             static_cast<double>(load_centroid(params, rule, seq, unit, kv_head, d));
    }
    const float score =
        std::isnan(sum) ? -std::numeric_limits<float>::infinity() : static_cast<float>(sum);
    scored.push_back({score, unit});
  }
  return scored;
}

/// The units that one (token, head) attends to, its own last.
std::vector<int64_t> choose_units(const MobaGateParams& params, const SelectionSchedule::Rule& rule,
                                  int64_t seq, int64_t row, int64_t head, int64_t own_unit) {
  std::vector<int64_t> chosen;
  if (own_unit <= rule.top_k - 1) {
    for (int64_t unit = 0; unit < own_unit; ++unit) chosen.push_back(unit);
  } else {
    std::vector<ScoredUnit> scored = score_history(params, rule, seq, row, head, own_unit);
    std::sort(scored.begin(), scored.end(), ranks_before);
    for (int64_t i = 0; i < rule.top_k - 1; ++i) {
      chosen.push_back(scored[static_cast<size_t>(i)].unit);
    }
    std::sort(chosen.begin(), chosen.end());
  }
  chosen.push_back(own_unit);
  return chosen;
}

}  // namespace

void moba_gate(const MobaGateParams& params) {
  const int64_t max_selected = params.selected.shape[2];
  for_each_query_row(params.batch, [&](int64_t seq, int64_t row, int64_t position) {
    const int32_t top_k = get<int32_t>(params.top_k, seq);
    QUIRE_CHECK(top_k >= 1) << "top_k " << top_k;
    const SelectionSchedule::Rule rule = params.schedule.rule_at(position, top_k);
    QUIRE_CHECK(int64_t{rule.top_k} * rule.group <= max_selected)
        << "top_k " << rule.top_k << " units of " << rule.group << " blocks, room for "
        << max_selected;
    const int64_t current = position / params.kv.block_size();
    for (int64_t head = 0; head < params.query.shape[1]; ++head) {
      std::vector<int32_t> blocks;
      for (const int64_t unit : choose_units(params, rule, seq, row, head, current / rule.group)) {
        const int64_t end = std::min((unit + 1) * rule.group, current + 1);
        for (int64_t block = unit * rule.group; block < end; ++block) {
          blocks.push_back(static_cast<int32_t>(block));
        }
      }
      blocks.resize(static_cast<size_t>(max_selected), -1);
      auto* out = static_cast<int32_t*>(params.selected.data);
      for (int64_t slot = 0; slot < max_selected; ++slot) {
        out[offset_of(params.selected, row, head, slot)] = blocks[static_cast<size_t>(slot)];
      }
    }
  });
}

}  // namespace quire::reference
