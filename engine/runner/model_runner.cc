#include "engine/runner/model_runner.h"

#include <algorithm>
#include <optional>

namespace quire {
namespace {

SelectionSchedule schedule_of(const ModelConfig& config) {
  return config.moba ? config.moba->schedule : SelectionSchedule{};
}

BlockDigest digest_of(const ModelConfig& config) {
  return config.moba ? config.moba->digest : BlockDigest::kMean;
}

bool is_decode_only(const StepPlan& plan) {
  return std::all_of(plan.sequences.begin(), plan.sequences.end(),
                     [](const auto& entry) { return entry.num_tokens == 1 && entry.samples; });
}

}  // namespace

ModelRunner::ModelRunner(Backend& backend, Model& model, const KvStorage& storage,
                         const StepLimits& limits)
    : backend_(backend),
      model_(model),
      storage_(storage),
      limits_(limits),
      workspace_(backend.allocate(model.workspace_bytes(limits))),
      input_builder_(storage.shape().block_size, schedule_of(model.config()),
                     model.rope_switch_len() > 0 ? 2 : 1),
      sampler_(backend, limits.max_logit_rows, model.config().vocab_size) {
  const ModelConfig& config = model.config();
  const KvStorage::Shape& shape = storage.shape();
  QUIRE_CHECK(shape.num_layers == config.num_layers && shape.head_dim == config.head_dim &&
              shape.num_kv_heads == config.num_kv_heads)
      << "KV storage of " << shape.num_layers << " layers, " << shape.num_kv_heads << " heads of "
      << shape.head_dim << "; the model has " << config.num_layers << ", " << config.num_kv_heads
      << ", " << config.head_dim;
  QUIRE_CHECK(shape.num_stages == schedule_of(config).num_stages)
      << "KV storage for " << shape.num_stages << " stages of selection; the model has "
      << schedule_of(config).num_stages;
  QUIRE_CHECK(shape.digest == digest_of(config))
      << "KV storage of digest " << digest_name(shape.digest) << "; the model's is "
      << digest_name(digest_of(config));
}

std::span<const SampledToken> ModelRunner::run_step(const StepPlan& plan) {
  input_builder_.build(plan);
  QUIRE_CHECK(input_builder_.num_tokens() <= limits_.max_tokens &&
              input_builder_.num_logit_rows() <= limits_.max_logit_rows)
      << "a step of " << input_builder_.num_tokens() << " tokens and "
      << input_builder_.num_logit_rows() << " logit rows; the limits are " << limits_.max_tokens
      << " and " << limits_.max_logit_rows;
  upload_input();

  const TensorView logits = run_model(is_decode_only(plan));

  sampling_.clear();
  for (const ScheduledSequence& entry : plan.sequences) {
    if (entry.samples) sampling_.push_back(entry.sequence);
  }
  // Without a token to fetch nothing has waited for the device yet; a failure must surface in the
  // step that caused it.
  if (sampling_.empty()) backend_.synchronize();
  return sampler_.sample(sampling_, logits);
}

TensorView ModelRunner::run_model(bool is_decode_step) {
  workspace_.reset();
  std::optional<DecodeStep> step;
  if (is_decode_step) step.emplace(backend_);
  const TensorView logits =
      model_.forward(input_builder_.input(input_->data()), storage_.layers(), workspace_);
  if (step) step->end();
  return logits;
}

void ModelRunner::upload_input() {
  const std::span<const std::byte> bytes = input_builder_.bytes();
  if (!input_ || input_->size_bytes() < bytes.size()) {
    input_.reset();  // before its successor: both at once might not fit
    input_ = backend_.allocate(bytes.size() + bytes.size() / 2);
  }
  backend_.upload(bytes, input_->data());
}

}  // namespace quire
