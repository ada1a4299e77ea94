#include "kernels/cpu/selection_stages.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace quire::cpu {

StageRows::StageRows(const MobaGateParams& params, const std::vector<SequenceRows>& sequences,
                     int32_t stage)
    : params_(params), stage_(stage), unit_params_(params) {
  const SelectionSchedule& schedule = params.schedule;
  if (stage >= 0) group_ = schedule.stages[static_cast<size_t>(stage)].group;
  for (const SequenceRows& sequence : sequences) add_rows(sequence);
  if (rows_.empty()) return;
  unit_params_.schedule = {};
  unit_params_.kv.k.shape[2] *= group_;  // the gate looks at its shape alone
  if (stage >= 0) {
    TensorView& centroids = unit_params_.kv.centroids;
    centroids.data = address(params.kv.unit_centroids, stage);
  }
  const int64_t num_tokens = params.query.shape[0], num_heads = params.query.shape[1];
  selected_.resize(static_cast<size_t>(num_tokens * num_heads * max_top_k_));
  unit_params_.selected = make_view(selected_.data(), {num_tokens, num_heads, max_top_k_});
}

void StageRows::add_rows(const SequenceRows& sequence) {
  const SelectionSchedule& schedule = params_.schedule;
  const int64_t stage_begin = stage_ < 0 ? 0 : schedule.stages[static_cast<size_t>(stage_)].from;
  const int64_t stage_end = stage_ + 1 < schedule.num_stages
                                ? schedule.stages[static_cast<size_t>(stage_) + 1].from
                                : INT64_MAX;
  const int64_t begin = std::max(sequence.first_position, stage_begin);
  const int64_t end =
      std::min(sequence.first_position + sequence.end_row - sequence.first_row, stage_end);
  if (begin >= end) return;
  SequenceRows rows = sequence;
  rows.first_row += begin - sequence.first_position;
  rows.end_row = rows.first_row + end - begin;
  rows.first_position = begin;
  rows.top_k = schedule.rule_at(begin, sequence.top_k).top_k;
  QUIRE_CHECK(int64_t{rows.top_k} * group_ <= params_.selected.shape[2])
      << "top_k " << rows.top_k << " units of " << group_ << " blocks, room for "
      << params_.selected.shape[2];
  if (group_ > 1) {
    const int64_t num_blocks = (end - 1) / params_.kv.block_size() + 1;
    std::vector<int32_t>& table = tables_.emplace_back();
    for (int64_t last = group_ - 1; last < num_blocks; last += group_) {
      table.push_back(sequence.block_table[last]);
    }
    rows.block_table = table.data();
  }
  max_top_k_ = std::max(max_top_k_, rows.top_k);
  rows_.push_back(rows);
}

void StageRows::expand() const {
  const int64_t num_heads = params_.query.shape[1], max_selected = params_.selected.shape[2];
  for (const SequenceRows& rows : rows_) {
    parallel_for((rows.end_row - rows.first_row) * num_heads, 256, [&](int64_t i) {
      const int64_t row = rows.first_row + i / num_heads, head = i % num_heads;
      const int64_t position = rows.first_position + i / num_heads;
      const int64_t current = position / params_.kv.block_size();
      const int32_t* unit = selected_.data() + (row * num_heads + head) * max_top_k_;
      auto* out = reinterpret_cast<int32_t*>(address(params_.selected, row, head));
      int32_t* const out_end = out + max_selected;
      for (int64_t k = 0; k < max_top_k_ && unit[k] >= 0; ++k) {
        const int64_t end = std::min<int64_t>((int64_t{unit[k]} + 1) * group_, current + 1);
        for (int64_t block = int64_t{unit[k]} * group_; block < end; ++block) {
          *out++ = static_cast<int32_t>(block);
        }
      }
      std::fill(out, out_end, -1);
    });
  }
}

}  // namespace quire::cpu
