#include "tests/simulation/simulated_model.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/backend.h"
#include "tests/simulation/random.h"

namespace quire {
namespace {

uint64_t initial_state(std::string_view salt) {
  uint64_t state = 17;
  for (const char character : salt) state = mix(state, static_cast<unsigned char>(character));
  return state;
}

/// `top_k` is 0 with full attention.
uint64_t word_of(uint64_t state_before, TokenId token, int32_t top_k, int32_t rope_set) {
  const auto how = static_cast<uint64_t>(top_k) << 1 | static_cast<uint64_t>(rope_set);
  return mix(mix(state_before, static_cast<uint64_t>(token)), how);
}

uint64_t centroid_of(std::span<const uint64_t> words) {
  uint64_t centroid = 23;
  for (const uint64_t word : words) centroid = mix(centroid, word);
  return centroid;
}

TokenId token_after(uint64_t word, int32_t vocab_size) {
  return static_cast<TokenId>(mix(word, 29) % static_cast<uint64_t>(vocab_size));
}

template <class T>
std::span<const T> elements(const ConstTensorView& view) {
  int64_t count = 1;
  for (int32_t axis = 0; axis < view.rank; ++axis) count *= view.shape[axis];
  return {static_cast<const T*>(view.data), static_cast<size_t>(count)};
}

std::string name_of(const Sequence& sequence) {
  return "sequence " + std::to_string(static_cast<uint64_t>(sequence.id));
}

}  // namespace

SimulatedModel::SimulatedModel(const EngineConfig& config)
    : config_(config),
      input_builder_(config.moba.block_size, {}, config.rope_switch_len > 0 ? 2 : 1),
      words_(static_cast<size_t>(config.num_blocks) * static_cast<size_t>(config.moba.block_size)),
      centroids_(static_cast<size_t>(config.num_blocks)) {}

std::span<const SampledToken> SimulatedModel::run_step(const StepPlan& plan) {
  judge(plan);
  const Fault fault = on_step(plan);
  note_outcome(plan, fault);
  if (fault == Fault::kBeforeWrites) throw DeviceError("simulated: the step did not start");
  try {
    input_builder_.build(plan);
  } catch (const ContractError& error) {
    blame(error.what());
    throw;
  }
  const ModelInput input = input_builder_.input(input_builder_.bytes().data());
  if (fault == Fault::kAfterWrites) {
    spoil(input);
    throw DeviceError("simulated: the step broke off");
  }
  compute(plan, input);
  return sampled_;
}

void SimulatedModel::forget(SequenceId id) {
  ++num_forgotten_[id];
  decoding_.erase(id);
}

int SimulatedModel::num_times_forgotten(SequenceId id) const {
  const auto found = num_forgotten_.find(id);
  return found == num_forgotten_.end() ? 0 : found->second;
}

void SimulatedModel::judge(const StepPlan& plan) {
  int64_t num_tokens = 0;
  std::set<SequenceId> seen;
  for (const ScheduledSequence& entry : plan.sequences) {
    const Sequence& sequence = *entry.sequence;
    num_tokens += entry.num_tokens;
    if (!seen.insert(sequence.id).second) blame(name_of(sequence) + " is planned twice");
    if (num_forgotten_.contains(sequence.id)) blame(name_of(sequence) + " runs after its end");
    if (entry.num_tokens < 1) blame(name_of(sequence) + " is planned without tokens");
    const int32_t end = sequence.num_computed_tokens + entry.num_tokens;
    if (entry.samples != (end == sequence.num_tokens())) {
      blame(name_of(sequence) + " samples elsewhere than behind its newest token");
    }
  }
  if (num_tokens > config_.max_step_tokens) {
    blame("a step of " + std::to_string(num_tokens) + " tokens");
  }
  if (std::ssize(plan.sequences) > config_.max_num_seqs) {
    blame("a step of " + std::to_string(plan.sequences.size()) + " sequences");
  }
  judge_order(plan);
  judge_decodes(plan);
  judge_writes(plan);
}

/// MoBA before full attention, and in each of them decodes before prefills. One token behind a
/// completion may be either: a decode, or the end of what is computed again.
void SimulatedModel::judge_order(const StepPlan& plan) {
  bool seen_full = false, seen_prefill = false;
  for (const ScheduledSequence& entry : plan.sequences) {
    const bool is_full = entry.attention == AttentionMode::kFull;
    if (seen_full && !is_full) blame("MoBA after full attention");
    if (is_full && !seen_full) seen_prefill = false;
    seen_full = is_full;
    const SequenceId id = entry.sequence->id;
    const bool was_put_back =  // and taken again
        std::ranges::find(plan.preempted, id) != plan.preempted.end() ||
        std::ranges::find(plan.restarted, id) != plan.restarted.end();
    if (seen_prefill && decoding_.contains(id) && !was_put_back) {
      blame("a decode after a prefill");
    }
    seen_prefill = seen_prefill || !entry.sequence->is_decoding();
  }
}

/// Who sampled in the last step gets a token in this one, or gave way to a higher rank, or starts
/// again with the other rope set because it has just outgrown the first.
void SimulatedModel::judge_decodes(const StepPlan& plan) {
  std::set<SequenceId> planned;
  for (const ScheduledSequence& entry : plan.sequences) planned.insert(entry.sequence->id);
  std::pair<int32_t, SequenceId> last_kept{std::numeric_limits<int32_t>::min(), SequenceId{}};
  std::pair<int32_t, SequenceId> first_preempted{std::numeric_limits<int32_t>::max(), SequenceId{}};
  for (const auto& [id, rank] : decoding_) {
    if (std::ranges::find(plan.restarted, id) != plan.restarted.end()) continue;
    if (std::ranges::find(plan.preempted, id) != plan.preempted.end()) {
      first_preempted = std::min(first_preempted, rank);
    } else if (planned.contains(id)) {
      last_kept = std::max(last_kept, rank);
    } else {
      blame("the decode of sequence " + std::to_string(static_cast<uint64_t>(id)) + " starves");
    }
  }
  if (first_preempted < last_kept) blame("a higher rank was preempted for a lower one");
}

/// What one sequence writes no other one of the step may see.
void SimulatedModel::judge_writes(const StepPlan& plan) {
  std::map<BlockId, const Sequence*> writers;
  const auto each_block = [&](const ScheduledSequence& entry, int32_t first_pos, auto visit) {
    const std::vector<BlockId>& table = entry.sequence->block_table.block_ids;
    for (auto i = static_cast<size_t>(first_pos / config_.moba.block_size); i < table.size(); ++i) {
      visit(table[i], entry.sequence);
    }
  };
  for (const ScheduledSequence& entry : plan.sequences) {
    each_block(entry, entry.sequence->num_computed_tokens,
               [&](BlockId block, const Sequence* writer) { writers.emplace(block, writer); });
  }
  for (const ScheduledSequence& entry : plan.sequences) {
    each_block(entry, 0, [&](BlockId block, const Sequence* reader) {
      const auto writer = writers.find(block);
      if (writer != writers.end() && writer->second != reader) {
        blame(name_of(*reader) + " sees what " + name_of(*writer->second) + " writes");
      }
    });
  }
}

void SimulatedModel::note_outcome(const StepPlan& plan, Fault fault) {
  for (const SequenceId id : plan.preempted) decoding_.erase(id);
  for (const SequenceId id : plan.restarted) {
    decoding_.erase(id);
    if (!restarted_.insert(id).second) blame("a sequence outgrows its rope set twice");
  }
  for (const ScheduledSequence& entry : plan.sequences) {
    const Sequence& sequence = *entry.sequence;
    if (fault != Fault::kNone) failed_.insert(sequence.id);
    if (entry.samples) decoding_[sequence.id] = {sequence.request.priority, sequence.id};
  }
}

void SimulatedModel::compute(const StepPlan& plan, const ModelInput& input) {
  const auto sealing = elements<int32_t>(input.sealing_blocks);
  unsealed_ = {sealing.begin(), sealing.end()};
  sampled_.clear();
  size_t next_logit_row = 0;
  const auto logit_rows = elements<int32_t>(input.logit_rows);
  const auto row_ends = elements<int32_t>(input.batch.cu_query_lens).subspan(1);
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const Sequence& sequence = *plan.sequences[i].sequence;
    const uint64_t last_word =
        compute_rows(sequence.request.cache_salt, input, static_cast<int64_t>(i));
    if (next_logit_row == logit_rows.size() || logit_rows[next_logit_row] != row_ends[i] - 1) {
      continue;
    }
    ++next_logit_row;
    SampledToken token;
    token.sequence = sequence.id;
    token.token = token_after(last_word, config_.vocab_size);
    sampled_.push_back(std::move(token));
  }
  if (!unsealed_.empty()) blame("a block is sealed that the step does not fill");
}

/// The word of the last row.
uint64_t SimulatedModel::compute_rows(std::string_view salt, const ModelInput& input,
                                      int64_t seq_idx) {
  const auto i = static_cast<size_t>(seq_idx);
  const auto row_begins = elements<int32_t>(input.batch.cu_query_lens);
  const auto max_blocks = static_cast<size_t>(input.batch.block_tables.shape[1]);
  const auto table = elements<int32_t>(input.batch.block_tables).subspan(i * max_blocks);
  const int32_t block_size = config_.moba.block_size;
  const int32_t top_k = seq_idx < input.num_moba_seqs ? elements<int32_t>(input.top_k)[i] : 0;

  uint64_t state = initial_state(salt), word = 0;
  int32_t pos = 0;
  for (auto row = static_cast<size_t>(row_begins[i]); row < static_cast<size_t>(row_begins[i + 1]);
       ++row) {
    for (; pos < elements<int32_t>(input.positions)[row]; ++pos) {
      const int32_t block = table[static_cast<size_t>(pos / block_size)];
      state = mix(state, words_[static_cast<size_t>(block * block_size + pos % block_size)]);
      if ((pos + 1) % block_size != 0) continue;
      seal(block);
      state = mix(state, centroids_[static_cast<size_t>(block)]);
    }
    const int32_t rope_set =
        input.rope_sets.data == nullptr ? 0 : elements<int32_t>(input.rope_sets)[row];
    word = word_of(state, elements<TokenId>(input.tokens)[row], top_k, rope_set);
    const int64_t slot = elements<int64_t>(input.slots)[row];
    words_[static_cast<size_t>(slot)] = word;
    if ((pos + 1) % block_size == 0) seal(static_cast<int32_t>(slot / block_size));
  }
  return word;
}

/// Only if the step says so; else the centroid stays what it was.
void SimulatedModel::seal(int32_t block) {
  const auto block_size = static_cast<size_t>(config_.moba.block_size);
  if (unsealed_.erase(block) == 0) return;
  const std::span<const uint64_t> words = words_;
  centroids_[static_cast<size_t>(block)] =
      centroid_of(words.subspan(static_cast<size_t>(block) * block_size, block_size));
}

void SimulatedModel::spoil(const ModelInput& input) {
  for (const int64_t slot : elements<int64_t>(input.slots)) {
    words_[static_cast<size_t>(slot)] = 0xdeadbeef;
  }
  for (const int32_t block : elements<int32_t>(input.sealing_blocks)) {
    centroids_[static_cast<size_t>(block)] = 0xdeadbeef;
  }
}

std::vector<TokenId> expected_completion(const ModelArguments& arguments,
                                         const EngineConfig& config, int32_t num_tokens) {
  const auto block_size = static_cast<size_t>(config.moba.block_size);
  std::vector<TokenId> tokens = arguments.prompt;
  const size_t num_prompt = tokens.size();
  std::vector<uint64_t> words;
  uint64_t state = initial_state(arguments.salt);
  const auto switch_len = static_cast<size_t>(config.rope_switch_len);
  int32_t rope_set = 0;
  while (tokens.size() < num_prompt + static_cast<size_t>(num_tokens)) {
    if (rope_set == 0 && switch_len > 0 && tokens.size() > switch_len) {
      rope_set = 1;  // and everything anew
      words.clear();
      state = initial_state(arguments.salt);
    }
    const size_t pos = words.size();
    const PhaseAttention& attention = pos < num_prompt ? arguments.prefill : arguments.decode;
    words.push_back(word_of(state, tokens[pos], attention.top_k, rope_set));
    state = mix(state, words.back());
    if (words.size() % block_size == 0) {
      state = mix(state, centroid_of(std::span(words).last(block_size)));
    }
    if (words.size() == tokens.size()) {
      tokens.push_back(token_after(words.back(), config.vocab_size));
    }
  }
  return {tokens.begin() + static_cast<int64_t>(num_prompt), tokens.end()};
}

}  // namespace quire
