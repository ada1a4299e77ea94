#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/engine_config.h"
#include "engine/runner/input_builder.h"
#include "engine/runner/step_runner.h"
#include "engine/scheduler/sequence.h"

namespace quire {

/// A model whose arithmetic is hashing. K and V of a position are one word: the hash of its token,
/// its attention, its rope set, and all words before it, read back from block storage through the
/// step's block table. A centroid is the hash of its block's words, taken when the step says that
/// it seals the block. So a block that is shared wrongly, freed too early, sealed too late or never
/// written changes every token sampled after it, and a comparison with `expected_completion` sees
/// it.
///
/// The salt counts as an input too: a block that crosses salts changes tokens as well.
///
/// It also judges the plans it is given. What is wrong is kept, not thrown: the engine would take a
/// throw for a failure of the device.
class SimulatedModel final : public StepRunner {
 public:
  /// A failing step leaves garbage in every slot that it was to write, or nothing.
  enum class Fault : uint8_t { kNone, kBeforeWrites, kAfterWrites };

  explicit SimulatedModel(const EngineConfig& config);

  std::span<const SampledToken> run_step(const StepPlan& plan) override;
  void forget(SequenceId id) override;

  std::function<Fault(const StepPlan&)> on_step;
  const std::set<SequenceId>& failed() const { return failed_; }
  int64_t num_restarts() const { return std::ssize(restarted_); }  // with the other rope set
  int num_times_forgotten(SequenceId id) const;
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  void judge(const StepPlan& plan);
  void judge_order(const StepPlan& plan);
  void judge_decodes(const StepPlan& plan);
  void judge_writes(const StepPlan& plan);
  void note_outcome(const StepPlan& plan, Fault fault);
  void compute(const StepPlan& plan, const ModelInput& input);
  uint64_t compute_rows(std::string_view salt, const ModelInput& input, int64_t seq_idx);
  void seal(int32_t block);
  void spoil(const ModelInput& input);
  void blame(std::string what) { violations_.push_back(std::move(what)); }

  const EngineConfig config_;
  InputBuilder input_builder_;
  std::vector<uint64_t> words_;      // [num_blocks * block_size]
  std::vector<uint64_t> centroids_;  // [num_blocks]
  std::set<int32_t> unsealed_;       // of this step
  std::vector<SampledToken> sampled_;
  std::map<SequenceId, std::pair<int32_t, SequenceId>> decoding_;  // sampled last; their ranks
  std::set<SequenceId> failed_;
  std::set<SequenceId> restarted_;
  std::map<SequenceId, int> num_forgotten_;
  std::vector<std::string> violations_;
};

/// What a sequence depends on, and nothing else.
struct ModelArguments {
  std::vector<TokenId> prompt;
  std::string salt;
  PhaseAttention prefill;
  PhaseAttention decode;
};

/// The first `num_tokens` tokens that a model without blocks, batches and chunks would sample.
std::vector<TokenId> expected_completion(const ModelArguments& arguments,
                                         const EngineConfig& config, int32_t num_tokens);

}  // namespace quire
