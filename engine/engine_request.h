#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/core/clock.h"
#include "engine/core/ids.h"
#include "engine/core/status.h"
#include "engine/sampling/sampling_params.h"
#include "models/model_config.h"

namespace quire {

/// A request's choice of attention; what is absent is the server's.
struct AttentionChoice {
  std::optional<AttentionMode> mode;  // absent: the model's policy per layer and phase
  std::optional<int32_t> top_k;       // blocks per (token, head), >= 1
};

/// Room in the waiting queue, taken before a request is tokenised and given back (destroyed) when
/// the sequence is first scheduled or dies. See scheduler/queue_gate.h.
class QueueTicket {
 public:
  virtual ~QueueTicket() = default;
  /// Replaces the estimate by the real number of tokens.
  virtual void correct(int64_t num_tokens) = 0;
};

/// One generation to run. Token ids only: text never enters the engine thread.
struct EngineRequest {
  std::string request_id;               // for the log
  std::vector<TokenId> prompt;          // at least one token
  int32_t max_new_tokens = 16;          // >= 1; prompt + max_new_tokens <= max_model_len
  int32_t min_new_tokens = 0;           // end-of-sequence tokens are impossible before
  std::vector<TokenId> stop_token_ids;  // end the generation; eos ids included unless ignored
  SamplingParams sampling;
  AttentionChoice attention;
  int32_t priority = 0;         // lower runs first
  std::string cache_salt;       // sequences share blocks only under an equal salt
  bool wants_progress = false;  // emit ProgressEvent per prefill chunk
  std::optional<Clock::TimePoint> deadline;
  std::unique_ptr<QueueTicket> queue_ticket;  // may be null
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };

/// Truths of one sequence, for the client and the log.
struct SequenceUsage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;  // prompt tokens served by the prefix cache at first admission
  int32_t completion_tokens = 0;
  int64_t blocks_attended = 0;   // summed over computed tokens and layers: blocks per query head
  int64_t blocks_available = 0;  // same sum with full attention
  double queue_seconds = 0;      // submit to first scheduled
  double prefill_seconds = 0;    // first scheduled to first token
  double decode_seconds = 0;     // first token to finish
  int32_t num_preemptions = 0;
};

/// The first event of every sequence: it left the mailbox and waits. `position` sequences stand
/// before it.
struct QueuedEvent {
  int32_t position = 0;
};
/// Prefill went on. `processed` counts cached tokens too and only grows: what is computed again
/// after a preemption is not progress.
struct ProgressEvent {
  int32_t processed = 0;
  int32_t total = 0;
  int32_t cached = 0;
};
/// One sampled token; the stop token that ends a generation is reported like any other. Logprobs
/// are natural logs, of the model's own distribution: before penalties, bias, temperature and
/// filters. They are filled only where sampling.num_top_logprobs >= 0.
struct TokenEvent {
  TokenId token = 0;
  float logprob = 0;
  std::vector<TokenLogprob> top_logprobs;  // descending, equal ones lower id first
};
/// The last event of every sequence, sent exactly once. status is ok unless reason is kError or
/// kCancelled: kCancelled after cancel(), kUnavailable where the engine stopped or became
/// unhealthy, kDeadlineExceeded, kInternal after a failed step.
struct FinishEvent {
  FinishReason reason = FinishReason::kStop;
  Status status;
  SequenceUsage usage;
};
using EngineEvent = std::variant<QueuedEvent, ProgressEvent, TokenEvent, FinishEvent>;

/// Receives a sequence's events on the engine thread. Must not block and must not call back into
/// the engine except cancel().
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_event(EngineEvent event) noexcept = 0;
};

}  // namespace quire
