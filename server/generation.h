#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/text/incremental_decoder.h"
#include "engine/text/prompt_encoder.h"
#include "engine/text/stop_matcher.h"
#include "server/inference_service.h"
#include "server/request.h"
#include "server/text_pool.h"

namespace quire {

/// What every generation needs; owned by the service and outliving all of them.
struct GenerationContext {
  const ServiceConfig& config;
  Engine& engine;
  const Tokenizer& tokenizer;
  const ChatTemplate& chat_template;
  const PromptEncoder& prompt_encoder;
  QueueGate& queue_gate;
  const Clock& clock;
  const EngineMetrics& metrics;
  TextPool& text_pool;

  /// The prompt that the model's template makes of a conversation. Prompt lane.
  Result<std::vector<TokenId>> encode_chat(const GenerateRequest::ChatInput& chat) const;
  /// Puts the token first that the model's texts begin with, if they do.
  void add_bos(std::vector<TokenId>& ids) const;
};

/// One request from its arrival to its DoneEvent: refusals, queue ticket, tokens, sequences, text.
/// All state is touched on its strand only, except where a method says otherwise; events of the
/// engine thread are posted there. Lives as long as its handle, a sequence or a posted step refers
/// to it.
class Generation final : public RequestHandle::Cancellable,
                         public std::enable_shared_from_this<Generation> {
 public:
  Generation(GenerationContext& context, GenerateRequest request,
             std::shared_ptr<GenerateStream> stream);

  /// Any thread.
  void start();
  /// Any thread.
  void cancel() noexcept override;

 private:
  class Sink;
  struct Choice {
    int32_t prompt_idx = 0;
    std::optional<SequenceId> sequence;
    std::optional<IncrementalDecoder> decoder;
    std::optional<StopMatcher> stop_matcher;
    int32_t num_tokens = 0;  // sampled, the stop token included
    bool has_text = false;   // the echo went out
    bool stopped = false;    // by a stop string: later tokens are dropped
    bool finished = false;
    Clock::TimePoint prefill_started_at{};
    int64_t prefill_start = 0;  // tokens processed when it started
    SequenceUsage usage;
  };

  Status refuse_early() const;
  void encode();  // prompt lane
  Status encode_prompts();
  Status fit_into_context();
  void submit();
  /// Tokens that a request gets which does not say, of the `num_left` that its prompt leaves.
  int64_t default_max_tokens(int64_t num_left) const;
  SamplingParams sampling_params(size_t choice_idx) const;
  EngineRequest engine_request(size_t choice_idx);
  void on_engine_event(size_t choice_idx, EngineEvent event);
  void on_queued(size_t choice_idx, const QueuedEvent& event);
  void on_progress(size_t choice_idx, const ProgressEvent& event);
  void on_token(size_t choice_idx, TokenEvent event);
  void on_finish(size_t choice_idx, const FinishEvent& event);
  void finish_choice(size_t choice_idx, FinishReason reason);
  bool is_stop_token(TokenId token) const;
  std::string echo_text(size_t prompt_idx) const;
  TokenLogprobText logprob_text(const TokenLogprob& entry) const;
  void finish(Status status);
  Usage total_usage() const;
  double retry_after_seconds() const;
  void log_finish(const Status& status) const;

  GenerationContext& context_;
  GenerateRequest request_;
  std::shared_ptr<GenerateStream> stream_;
  TextPool::Strand strand_;
  int64_t num_choices_;
  std::unique_ptr<QueueTicket> ticket_;
  std::vector<std::vector<TokenId>> prompts_;
  std::vector<TokenId> stop_token_ids_;
  std::vector<Choice> choices_;
  size_t num_finished_ = 0;
  bool is_done_ = false;
  std::atomic<bool> is_cancelled_{false};
  Clock::TimePoint received_at_;
  std::optional<Clock::TimePoint> first_token_at_;
  FinishReason last_reason_ = FinishReason::kStop;
};

}  // namespace quire
