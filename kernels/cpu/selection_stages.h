#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/ops/moba_gate.h"

// A stage of a selection schedule is MoBA with a larger block, so the gate needs to know nothing of
// schedules: the rows of each stage are given to it as a call of their own, over a cache whose
// blocks are units, and the units that it selects are written out as blocks.

namespace quire::cpu {

/// The rows of a batch that select by one stage, as the gate takes them. Not to be moved: the call
/// points into it.
class StageRows {
 public:
  /// `sequences`: the whole batch, with the sequences' top_k.
  StageRows(const MobaGateParams& params, const std::vector<SequenceRows>& sequences,
            int32_t stage);
  StageRows(const StageRows&) = delete;
  StageRows& operator=(const StageRows&) = delete;

  bool is_empty() const { return rows_.empty(); }
  /// `selected` holds units; a unit's block id is that of its last block.
  const MobaGateParams& params() const { return unit_params_; }
  const std::vector<SequenceRows>& rows() const { return rows_; }

  /// Writes the selected units as blocks into the batch's own `selected`.
  void expand() const;

 private:
  void add_rows(const SequenceRows& sequence);

  const MobaGateParams& params_;
  int32_t stage_;
  int32_t group_ = 1;
  int32_t max_top_k_ = 1;
  MobaGateParams unit_params_;
  std::vector<SequenceRows> rows_;
  std::vector<std::vector<int32_t>> tables_;  // unit -> its last block's id
  std::vector<int32_t> selected_;             // [num_tokens, num_heads, max_top_k_]
};

}  // namespace quire::cpu
