#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/input_builder.h"
#include "engine/runner/step_runner.h"
#include "engine/sampling/sampler.h"
#include "models/model.h"

namespace quire {

/// Runs step plans on a real model: builds the input, uploads it, forward, sample. All device
/// memory of a step is taken at construction; the block tables alone may grow with the longest
/// sequence. Engine thread only.
class ModelRunner final : public StepRunner {
 public:
  /// All three must outlive the runner. Throws DeviceError with the bytes asked for, and
  /// ContractError where model and storage do not fit together.
  ModelRunner(Backend& backend, Model& model, const KvStorage& storage, const StepLimits& limits);

  std::span<const SampledToken> run_step(const StepPlan& plan) override;
  void forget(SequenceId id) override { sampler_.forget(id); }

  int64_t workspace_bytes() const { return static_cast<int64_t>(workspace_.capacity_bytes()); }

 private:
  void upload_input();
  TensorView run_model(bool is_decode_step);

  Backend& backend_;
  Model& model_;
  const KvStorage& storage_;
  StepLimits limits_;
  Workspace workspace_;
  InputBuilder input_builder_;
  std::unique_ptr<DeviceBuffer> input_;
  Sampler sampler_;
  std::vector<const Sequence*> sampling_;  // the step's sequences that sample, in plan order
};

}  // namespace quire
