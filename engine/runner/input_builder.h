#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/runner/packed_arrays.h"
#include "engine/scheduler/step_plan.h"
#include "models/model.h"

namespace quire {

/// Turns a step plan into the flat arrays that a model reads. This is where sequences, blocks and
/// chunks end: behind it there are only rows, positions and slots. Engine thread only.
///
/// A row of the block table is copied from the sequence's own table, which has the same layout, by
/// one memcpy: a sequence of a million tokens has 16K blocks, and every decode step needs them.
class InputBuilder {
 public:
  /// `schedule` and `num_rope_sets`: the model's. The rows of a model with one set name none.
  explicit InputBuilder(int32_t block_size, const SelectionSchedule& schedule = {},
                        int32_t num_rope_sets = 1);

  /// Replaces the previous step's arrays. Throws ContractError for a plan that is not one: empty,
  /// full before MoBA, blocks missing, a rope set that the model lacks, or sampling before the
  /// newest token is computed.
  void build(const StepPlan& plan);

  /// Everything that must be uploaded, in one piece.
  std::span<const std::byte> bytes() const { return arrays_.bytes(); }

  /// The model's input, given where a copy of bytes() starts in the model's memory. Pass
  /// bytes().data() to look at it on the host.
  ModelInput input(const void* device_base) const;

  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.num_elements); }
  int64_t num_logit_rows() const { return static_cast<int64_t>(logit_rows_.num_elements); }

 private:
  void measure(const StepPlan& plan);
  void fill(const StepPlan& plan);

  int32_t block_size_;
  SelectionSchedule schedule_;
  int32_t num_rope_sets_;
  PackedArrays arrays_;
  PackedArray<int32_t> tokens_;          // [num_tokens]
  PackedArray<int32_t> positions_;       // [num_tokens]
  PackedArray<int32_t> rope_sets_;       // [num_tokens], none where there is one set
  PackedArray<int64_t> slots_;           // [num_tokens]
  PackedArray<int32_t> cu_query_lens_;   // [num_seqs + 1]
  PackedArray<int32_t> kv_lens_;         // [num_seqs]
  PackedArray<int32_t> block_tables_;    // [num_seqs, max_blocks]
  PackedArray<int32_t> top_k_;           // [num_moba_seqs]
  PackedArray<int32_t> sealing_blocks_;  // [num_sealing]
  PackedArray<int32_t> logit_rows_;      // [num_logit_rows]
  // [num_units, group] of each stage
  std::array<PackedArray<int32_t>, SelectionSchedule::kMaxStages> sealing_units_;
  int64_t num_seqs_ = 0;
  int64_t max_blocks_ = 0;  // blocks of the longest sequence of the step
  int32_t num_moba_seqs_ = 0;
  int32_t max_selected_ = 1;
  int32_t max_query_len_ = 0;
  int32_t max_kv_len_ = 0;
};

}  // namespace quire
