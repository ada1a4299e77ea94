#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/ids.h"
#include "engine/engine_request.h"
#include "engine/kv_cache/block_table.h"

namespace quire {

enum class SequenceState : uint8_t { kWaiting, kRunning, kFinished };

/// Attention of one phase of a sequence, in the layers that are not always full.
struct PhaseAttention {
  AttentionMode mode = AttentionMode::kMoba;
  int32_t top_k = 1;  // blocks per (token, head) with kMoba; 0 with kFull

  friend bool operator==(const PhaseAttention&, const PhaseAttention&) = default;
};

/// One generation with its tokens and blocks. Everything else is derived from the counters. Owned
/// by the scheduler; engine thread only.
struct Sequence {
  SequenceId id{};
  EngineRequest request;  // request.prompt is moved into tokens
  std::shared_ptr<EventSink> sink;
  SequenceState state = SequenceState::kWaiting;

  std::vector<TokenId> tokens;  // prompt, then completion
  int32_t num_prompt_tokens = 0;
  int32_t rope_set = 0;                // with which all of its positions are rotated
  int32_t num_computed_tokens = 0;     // tokens whose K and V are in the cache
  int32_t num_published_blocks = 0;    // its first blocks that stand in the prefix cache
  PhaseAttention prefill_attention;    // of prompt tokens
  PhaseAttention decode_attention;     // of completion tokens, recomputed ones included
  BlockTable block_table;              // covers at least num_computed_tokens
  std::vector<uint64_t> block_hashes;  // hash chain of full blocks of `tokens`, grown on demand

  int32_t num_reported_tokens = 0;  // of the prompt, in the newest ProgressEvent
  SequenceUsage usage;
  Clock::TimePoint submitted_at{};
  Clock::TimePoint scheduled_at{};  // first time; usage.queue_seconds
  Clock::TimePoint first_token_at{};
  Clock::TimePoint last_token_at{};

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_completion_tokens() const { return num_tokens() - num_prompt_tokens; }
  int32_t num_pending_tokens() const { return num_tokens() - num_computed_tokens; }
  /// The first tokens whose blocks may be shared through the prefix cache: all of them, or the
  /// prompt alone where decode attends differently from prefill.
  int32_t num_shareable_tokens() const {
    return prefill_attention == decode_attention ? num_tokens() : num_prompt_tokens;
  }
  /// A decode step computes exactly the newest sampled token.
  bool is_decoding() const { return num_completion_tokens() > 0 && num_pending_tokens() == 1; }
};

}  // namespace quire
