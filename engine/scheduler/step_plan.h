#pragma once

#include <cstdint>
#include <vector>

#include "engine/core/ids.h"
#include "models/model_config.h"

namespace quire {

struct Sequence;

/// `num_tokens` tokens of one sequence, from its num_computed_tokens on. Their blocks are in its
/// block table already.
struct ScheduledSequence {
  Sequence* sequence = nullptr;
  int32_t num_tokens = 0;
  bool samples = false;  // the chunk reaches the newest token, so a token is sampled after it
  AttentionMode attention = AttentionMode::kMoba;  // of this chunk, in layers not always full
  int32_t top_k = 1;                               // with kMoba
};

/// What one step will run. A value: valid until the scheduler's finish_step.
struct StepPlan {
  std::vector<ScheduledSequence>
      sequences;                      // kMoba entries first, then kFull; decodes first in each
  std::vector<SequenceId> preempted;  // gave their blocks back; will be recomputed
  std::vector<SequenceId> restarted;  // likewise, but for another rope set, not for want of blocks
  bool empty() const { return sequences.empty(); }
};

}  // namespace quire
