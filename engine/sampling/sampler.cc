#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cstring>

#include "engine/sampling/logprobs.h"
#include "engine/sampling/random_stream.h"
#include "engine/scheduler/sequence.h"

namespace quire {
namespace {

bool bans_stop_tokens(const Sequence& sequence) {
  return sequence.num_completion_tokens() < sequence.request.min_new_tokens &&
         !sequence.request.stop_token_ids.empty();
}

bool changes_logits(const Sequence& sequence) {
  const SamplingParams& params = sequence.request.sampling;
  return has_penalties(params) || !params.logit_bias.empty() || bans_stop_tokens(sequence);
}

bool wants_logprobs(const Sequence& sequence) {
  return sequence.request.sampling.num_top_logprobs >= 0;
}

double uniform_of(const Sequence& sequence) {
  // The engine gives every sequence a seed; one that came without is greedy.
  return uniform_at(sequence.request.sampling.seed.value_or(0),
                    static_cast<uint64_t>(sequence.num_completion_tokens()));
}

}  // namespace

Sampler::Sampler(Backend& backend, int32_t max_rows, int32_t vocab_size)
    : backend_(backend),
      max_rows_(max_rows),
      vocab_size_(vocab_size),
      row_(static_cast<size_t>(vocab_size)) {
  const auto num_rows = static_cast<size_t>(max_rows);
  arrays_.add<float>(num_rows);    // temperature
  arrays_.add<int32_t>(num_rows);  // top_k
  arrays_.add<float>(num_rows);    // top_p
  arrays_.add<float>(num_rows);    // min_p
  arrays_.add<double>(num_rows);   // uniform
  parameters_ = backend_.allocate(arrays_.bytes().size());
  host_results_.resize(num_rows * (sizeof(int32_t) + sizeof(float)));
  results_ = backend_.allocate(host_results_.size());
}

std::span<const SampledToken> Sampler::sample(std::span<const Sequence* const> sequences,
                                              TensorView logits) {
  QUIRE_CHECK(static_cast<int64_t>(sequences.size()) <= max_rows_)
      << sequences.size() << " rows, room for " << max_rows_;
  QUIRE_CHECK(logits.rank == 2 && logits.shape[0] == static_cast<int64_t>(sequences.size()) &&
              logits.shape[1] == vocab_size_ && logits.is_contiguous())
      << "logits [" << logits.shape[0] << ", " << logits.shape[1] << "] for " << sequences.size()
      << " rows of " << vocab_size_;
  sampled_.clear();
  if (sequences.empty()) return sampled_;

  raw_rows_.resize(std::max(raw_rows_.size(), sequences.size()));
  for (size_t row = 0; row < sequences.size(); ++row) {
    prepare_row(*sequences[row], logits.rows(static_cast<int64_t>(row), 1), raw_rows_[row]);
  }
  run_backend(sequences, logits);
  for (size_t row = 0; row < sequences.size(); ++row) {
    if (wants_logprobs(*sequences[row]) && !raw_rows_[row].empty()) {
      const RowLogprobs logprobs(raw_rows_[row]);
      sampled_[row].logprob = logprobs.of(sampled_[row].token);
      sampled_[row].top_logprobs = logprobs.top(sequences[row]->request.sampling.num_top_logprobs);
    }
  }
  return sampled_;
}

void Sampler::prepare_row(const Sequence& sequence, TensorView logits_row,
                          std::vector<float>& raw_row) {
  raw_row.clear();
  const SamplingParams& params = sequence.request.sampling;
  const bool changes = changes_logits(sequence);
  // Without changes the op's own logprob is that of the raw row already.
  const bool keeps_raw = params.num_top_logprobs > 0 || (changes && wants_logprobs(sequence));
  if (!changes && !keeps_raw) return;

  backend_.download(logits_row.data, std::as_writable_bytes(std::span(row_)));
  if (keeps_raw) raw_row = row_;
  if (!changes) return;
  if (has_penalties(params)) apply_penalties(params, counts_of(sequence), row_);
  apply_logit_bias(params.logit_bias, row_);
  if (bans_stop_tokens(sequence)) ban_tokens(sequence.request.stop_token_ids, row_);
  backend_.upload(std::as_bytes(std::span(row_)), logits_row.data);
}

void Sampler::run_backend(std::span<const Sequence* const> sequences, TensorView logits) {
  const size_t num_rows = sequences.size();
  arrays_.clear();
  const auto temperature = arrays_.add<float>(num_rows);
  const auto top_k = arrays_.add<int32_t>(num_rows);
  const auto top_p = arrays_.add<float>(num_rows);
  const auto min_p = arrays_.add<float>(num_rows);
  const auto uniform = arrays_.add<double>(num_rows);
  for (size_t row = 0; row < num_rows; ++row) {
    const SamplingParams& params = sequences[row]->request.sampling;
    arrays_.host(temperature)[row] = params.temperature;
    arrays_.host(top_k)[row] = params.top_k;
    arrays_.host(top_p)[row] = params.top_p;
    arrays_.host(min_p)[row] = params.min_p;
    arrays_.host(uniform)[row] = uniform_of(*sequences[row]);
  }
  backend_.upload(arrays_.bytes(), parameters_->data());

  const auto parameter = [&](auto array) {
    return PackedArrays::device_view(parameters_->data(), array, {static_cast<int64_t>(num_rows)});
  };
  auto* device_tokens = static_cast<int32_t*>(results_->data());
  auto* device_logprobs = reinterpret_cast<float*>(device_tokens + max_rows_);
  backend_.sample({.logits = logits,
                   .temperature = parameter(temperature),
                   .top_k = parameter(top_k),
                   .top_p = parameter(top_p),
                   .min_p = parameter(min_p),
                   .uniform = parameter(uniform),
                   .tokens = make_view(device_tokens, {static_cast<int64_t>(num_rows)}),
                   .logprobs = make_view(device_logprobs, {static_cast<int64_t>(num_rows)})});
  backend_.download(results_->data(), host_results_);

  const std::byte* host_tokens = host_results_.data();
  const std::byte* host_logprobs = host_tokens + static_cast<size_t>(max_rows_) * sizeof(int32_t);
  for (size_t row = 0; row < num_rows; ++row) {
    SampledToken sampled{
        .sequence = sequences[row]->id, .token = 0, .logprob = 0, .top_logprobs = {}};
    std::memcpy(&sampled.token, host_tokens + row * sizeof(int32_t), sizeof(int32_t));
    if (wants_logprobs(*sequences[row])) {
      std::memcpy(&sampled.logprob, host_logprobs + row * sizeof(float), sizeof(float));
    }
    sampled_.push_back(std::move(sampled));
  }
}

TokenCounts& Sampler::counts_of(const Sequence& sequence) {
  TokenCounts& counts = counts_.try_emplace(sequence.id, vocab_size_).first->second;
  counts.catch_up(sequence.tokens, sequence.num_prompt_tokens);
  return counts;
}

}  // namespace quire
