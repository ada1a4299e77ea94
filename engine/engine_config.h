#pragma once

#include <cstdint>

#include "models/model_config.h"

namespace quire {

/// Validated settings of the engine; the server fills them from its own configuration.
struct EngineConfig {
  MobaConfig moba;                                         // block_size is the cache's block size
  AttentionMode default_attention = AttentionMode::kMoba;  // for requests that do not choose
  int32_t num_layers = 1;                                  // for the attended-blocks accounting
  int32_t vocab_size = 0;          // token ids of requests lie in [0, vocab_size)
  int32_t max_model_len = 0;       // tokens of prompt + completion one sequence may hold
  int32_t rope_switch_len = 0;     // the model's; 0: it has one rope set
  int32_t num_blocks = 0;          // KV pool
  int32_t max_num_seqs = 64;       // running at once
  int32_t max_step_tokens = 4096;  // token budget of a step; decodes come first in it
  double max_step_seconds = 0;     // of a step beside a prefill; alone ten times; 0: no limit
  int32_t max_top_k = 64;          // largest top_k a request may ask for
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = 8'000'000;
  bool enable_prefix_cache = true;
};

}  // namespace quire
