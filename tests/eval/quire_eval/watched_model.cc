#include "tests/eval/quire_eval/watched_model.h"

#include <algorithm>

#include "kernels/backend_registry.h"
#include "kernels/check.h"

namespace quire::eval {

WatchedModel::WatchedModel(const Options& options)
    : backend_(make_backend(options.backend, {.num_threads = options.num_threads})) {
  model_ = load_model(options.model, backend_, &options.moba);
  const ModelConfig& config = model_->config();
  const int32_t block_size = options.moba.block_size;
  const int32_t num_blocks = (options.max_tokens + block_size - 1) / block_size;
  storage_ =
      std::make_unique<KvStorage>(backend_, KvStorage::Shape{.num_layers = config.num_layers,
                                                             .num_blocks = num_blocks,
                                                             .num_kv_heads = config.num_kv_heads,
                                                             .block_size = block_size,
                                                             .head_dim = config.head_dim});
  const int32_t max_top_k = std::max(options.moba.top_k, options.moba.top_k_of_decode());
  runner_ = std::make_unique<ModelRunner>(
      backend_, *model_, *storage_,
      StepLimits{
          .max_tokens = options.max_step_tokens, .max_logit_rows = 1, .max_top_k = max_top_k});
  // Texts of all lengths are read through one cache; with longrope the longest of them decides.
  const int32_t switch_len = model_->rope_switch_len();
  sequence_.rope_set = switch_len > 0 && options.max_tokens > switch_len ? 1 : 0;
  for (int32_t block = 0; block < num_blocks; ++block) {
    sequence_.block_table.block_ids.push_back(BlockId{block});
  }
}

void WatchedModel::write(int32_t begin, const std::vector<TokenId>& tokens) {
  QUIRE_CHECK(begin <= sequence_.num_computed_tokens) << "only what has been read has a next token";
  sequence_.tokens.resize(static_cast<size_t>(begin));
  sequence_.tokens.insert(sequence_.tokens.end(), tokens.begin(), tokens.end());
  sequence_.num_computed_tokens = begin;
}

void WatchedModel::read_to(int32_t end, AttentionMode attention, int32_t top_k) {
  StepPlan plan;
  plan.sequences.push_back({.sequence = &sequence_,
                            .num_tokens = end - sequence_.num_computed_tokens,
                            .attention = attention,
                            .top_k = top_k});
  runner_->run_step(plan);
  sequence_.num_computed_tokens = end;
}

}  // namespace quire::eval
