#include "engine/runner/input_builder.h"

#include <algorithm>
#include <cstring>

#include "engine/scheduler/sequence.h"

namespace quire {
namespace {

// BlockTable keeps ids in the layout of a block-table row, which makes a row one memcpy.
static_assert(sizeof(BlockId) == sizeof(int32_t));

/// Positions [first_pos, end_pos) of one sequence: what a step computes for it.
struct Chunk {
  int32_t first_pos = 0;
  int32_t end_pos = 0;

  int32_t num_tokens() const { return end_pos - first_pos; }
  int32_t num_blocks(int32_t block_size) const { return (end_pos - 1) / block_size + 1; }
  /// Logical blocks [first_sealing, end_sealing) become full in this chunk.
  int32_t first_sealing(int32_t block_size) const { return first_pos / block_size; }
  int32_t end_sealing(int32_t block_size) const { return end_pos / block_size; }
  /// So are units [first_unit, end_unit) of `group` blocks.
  int32_t first_unit(int32_t block_size, int32_t group) const {
    return first_sealing(block_size) / group;
  }
  int32_t end_unit(int32_t block_size, int32_t group) const {
    return end_sealing(block_size) / group;
  }
};

Chunk chunk_of(const ScheduledSequence& entry) {
  const int32_t first_pos = entry.sequence->num_computed_tokens;
  return {first_pos, first_pos + entry.num_tokens};
}

void check_entry(const ScheduledSequence& entry, int32_t block_size) {
  QUIRE_CHECK(entry.sequence != nullptr);
  const Sequence& sequence = *entry.sequence;
  const Chunk chunk = chunk_of(entry);
  QUIRE_CHECK(entry.num_tokens > 0 && chunk.end_pos <= sequence.num_tokens())
      << "chunk [" << chunk.first_pos << ", " << chunk.end_pos << ") of a sequence of "
      << sequence.num_tokens() << " tokens";
  QUIRE_CHECK(chunk.num_blocks(block_size) <= sequence.block_table.num_blocks())
      << chunk.end_pos << " tokens in " << sequence.block_table.num_blocks() << " blocks of "
      << block_size;
  QUIRE_CHECK(!entry.samples || chunk.end_pos == sequence.num_tokens())
      << "samples after token " << chunk.end_pos << " of " << sequence.num_tokens();
  QUIRE_CHECK(entry.attention == AttentionMode::kFull || entry.top_k >= 1)
      << "top_k " << entry.top_k;
}

/// slots[i] of positions first_pos + i, a block's run at a time.
void fill_slots(const BlockTable& table, const Chunk& chunk, int32_t block_size, int64_t* slots) {
  for (int32_t pos = chunk.first_pos; pos < chunk.end_pos;) {
    const int32_t logical_block = pos / block_size;
    const int32_t run_end = std::min(chunk.end_pos, (logical_block + 1) * block_size);
    const int64_t block_slot =
        int64_t{to_index(table.block_ids[static_cast<size_t>(logical_block)])} * block_size;
    for (; pos < run_end; ++pos) *slots++ = block_slot + pos % block_size;
  }
}

}  // namespace

InputBuilder::InputBuilder(int32_t block_size, const SelectionSchedule& schedule,
                           int32_t num_rope_sets)
    : block_size_(block_size), schedule_(schedule), num_rope_sets_(num_rope_sets) {
  QUIRE_CHECK(block_size > 0) << "block_size " << block_size;
}

void InputBuilder::build(const StepPlan& plan) {
  measure(plan);
  fill(plan);
}

void InputBuilder::measure(const StepPlan& plan) {
  QUIRE_CHECK(!plan.empty()) << "a step without sequences";
  num_seqs_ = static_cast<int64_t>(plan.sequences.size());
  num_moba_seqs_ = 0;
  max_selected_ = 1;
  max_query_len_ = 0;
  max_kv_len_ = 0;
  size_t num_tokens = 0, num_sealing = 0, num_logit_rows = 0;
  std::array<size_t, SelectionSchedule::kMaxStages> num_members{};
  bool seen_full = false;
  for (const ScheduledSequence& entry : plan.sequences) {
    check_entry(entry, block_size_);
    QUIRE_CHECK(entry.sequence->rope_set >= 0 && entry.sequence->rope_set < num_rope_sets_)
        << "rope set " << entry.sequence->rope_set << " of " << num_rope_sets_;
    const Chunk chunk = chunk_of(entry);
    num_tokens += static_cast<size_t>(chunk.num_tokens());
    num_sealing +=
        static_cast<size_t>(chunk.end_sealing(block_size_) - chunk.first_sealing(block_size_));
    for (int32_t s = 0; s < schedule_.num_stages; ++s) {
      const auto stage = static_cast<size_t>(s);
      const int32_t group = schedule_.stages[stage].group;
      num_members[stage] += static_cast<size_t>(
          (chunk.end_unit(block_size_, group) - chunk.first_unit(block_size_, group)) * group);
    }
    num_logit_rows += entry.samples ? 1 : 0;
    max_query_len_ = std::max(max_query_len_, chunk.num_tokens());
    max_kv_len_ = std::max(max_kv_len_, chunk.end_pos);
    if (entry.attention == AttentionMode::kFull) {
      seen_full = true;
      continue;
    }
    QUIRE_CHECK(!seen_full) << "a MoBA sequence after one with full attention";
    ++num_moba_seqs_;
    const int64_t selected = schedule_.max_selected(entry.top_k, chunk.end_pos);
    max_selected_ = std::max(max_selected_, static_cast<int32_t>(selected));
  }
  max_blocks_ = (max_kv_len_ - 1) / block_size_ + 1;

  const auto num_seqs = static_cast<size_t>(num_seqs_);
  arrays_.clear();
  tokens_ = arrays_.add<int32_t>(num_tokens);
  positions_ = arrays_.add<int32_t>(num_tokens);
  rope_sets_ = arrays_.add<int32_t>(num_rope_sets_ > 1 ? num_tokens : 0);
  slots_ = arrays_.add<int64_t>(num_tokens);
  cu_query_lens_ = arrays_.add<int32_t>(num_seqs + 1);
  kv_lens_ = arrays_.add<int32_t>(num_seqs);
  block_tables_ = arrays_.add<int32_t>(num_seqs * static_cast<size_t>(max_blocks_));
  top_k_ = arrays_.add<int32_t>(static_cast<size_t>(num_moba_seqs_));
  sealing_blocks_ = arrays_.add<int32_t>(num_sealing);
  logit_rows_ = arrays_.add<int32_t>(num_logit_rows);
  for (size_t stage = 0; stage < num_members.size(); ++stage) {
    sealing_units_[stage] = arrays_.add<int32_t>(num_members[stage]);
  }
}

void InputBuilder::fill(const StepPlan& plan) {
  int32_t* tokens = arrays_.host(tokens_).data();
  int32_t* positions = arrays_.host(positions_).data();
  int32_t* rope_sets = arrays_.host(rope_sets_).data();
  int64_t* slots = arrays_.host(slots_).data();
  int32_t* cu_query_lens = arrays_.host(cu_query_lens_).data();
  int32_t* kv_lens = arrays_.host(kv_lens_).data();
  int32_t* table_row = arrays_.host(block_tables_).data();
  int32_t* top_k = arrays_.host(top_k_).data();
  int32_t* sealing_blocks = arrays_.host(sealing_blocks_).data();
  int32_t* logit_rows = arrays_.host(logit_rows_).data();

  std::array<int32_t*, SelectionSchedule::kMaxStages> sealing_units{};
  for (size_t stage = 0; stage < sealing_units.size(); ++stage) {
    sealing_units[stage] = arrays_.host(sealing_units_[stage]).data();
  }

  int32_t row = 0;
  *cu_query_lens++ = 0;
  for (const ScheduledSequence& entry : plan.sequences) {
    const Sequence& sequence = *entry.sequence;
    const Chunk chunk = chunk_of(entry);
    const BlockId* block_ids = sequence.block_table.block_ids.data();

    std::copy_n(sequence.tokens.data() + chunk.first_pos, chunk.num_tokens(), tokens + row);
    for (int32_t i = 0; i < chunk.num_tokens(); ++i) positions[row + i] = chunk.first_pos + i;
    if (num_rope_sets_ > 1) std::fill_n(rope_sets + row, chunk.num_tokens(), sequence.rope_set);
    fill_slots(sequence.block_table, chunk, block_size_, slots + row);

    const int32_t num_blocks = chunk.num_blocks(block_size_);
    std::memcpy(table_row, block_ids, static_cast<size_t>(num_blocks) * sizeof(int32_t));
    std::fill(table_row + num_blocks, table_row + max_blocks_, to_index(BlockId::kNone));
    table_row += max_blocks_;

    for (int32_t block = chunk.first_sealing(block_size_); block < chunk.end_sealing(block_size_);
         ++block) {
      *sealing_blocks++ = to_index(block_ids[block]);
    }
    for (int32_t s = 0; s < schedule_.num_stages; ++s) {
      const auto stage = static_cast<size_t>(s);
      const int32_t group = schedule_.stages[stage].group;
      const int32_t first = chunk.first_unit(block_size_, group) * group;
      const int32_t end = chunk.end_unit(block_size_, group) * group;
      for (int32_t block = first; block < end; ++block) {
        *sealing_units[stage]++ = to_index(block_ids[block]);
      }
    }
    row += chunk.num_tokens();
    *cu_query_lens++ = row;
    *kv_lens++ = chunk.end_pos;
    if (entry.attention == AttentionMode::kMoba) *top_k++ = entry.top_k;
    if (entry.samples) *logit_rows++ = row - 1;
  }
}

ModelInput InputBuilder::input(const void* device_base) const {
  const auto vector = [&](auto array) {
    return PackedArrays::device_view(device_base, array,
                                     {static_cast<int64_t>(array.num_elements)});
  };
  ModelInput input;
  input.tokens = vector(tokens_);
  input.positions = vector(positions_);
  if (num_rope_sets_ > 1) input.rope_sets = vector(rope_sets_);
  input.slots = vector(slots_);
  input.batch.cu_query_lens = vector(cu_query_lens_);
  input.batch.kv_lens = vector(kv_lens_);
  input.batch.block_tables =
      PackedArrays::device_view(device_base, block_tables_, {num_seqs_, max_blocks_});
  input.batch.max_query_len = max_query_len_;
  input.batch.max_kv_len = max_kv_len_;
  input.num_moba_seqs = num_moba_seqs_;
  input.max_selected = max_selected_;
  input.top_k = vector(top_k_);
  input.sealing_blocks = vector(sealing_blocks_);
  input.logit_rows = vector(logit_rows_);
  for (int32_t s = 0; s < schedule_.num_stages; ++s) {
    const auto stage = static_cast<size_t>(s);
    const int64_t group = schedule_.stages[stage].group;
    const auto num_members = static_cast<int64_t>(sealing_units_[stage].num_elements);
    input.sealing_units[stage] =
        PackedArrays::device_view(device_base, sealing_units_[stage], {num_members / group, group});
  }
  return input;
}

}  // namespace quire
