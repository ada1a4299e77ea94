#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/engine_request.h"
#include "engine/text/chat_template.h"

// Protocol-neutral requests and events. JSON and protobuf are turned into these at the edges
// (http/openai_parse, grpc/proto_convert) and die there.

namespace quire {

/// One /v1/chat/completions or /v1/completions call (or its gRPC twin). Ranges are checked by
/// InferenceService::validate, so that both protocols refuse the same things in the same words.
struct GenerateRequest {
  std::string request_id;  // x-request-id given by the client, or made
  std::string model;       // as asked for; empty = the served one
  std::string api_key_id;  // who asks: scopes the prefix cache; never the key itself

  struct ChatInput {
    std::vector<ChatMessage> messages;
    ChatTemplateOptions options;
  };
  struct TextInput {  // prompts of /v1/completions; each makes `n` choices
    std::vector<std::string> prompts;
  };
  struct TokenInput {
    std::vector<std::vector<TokenId>> prompts;
  };
  std::variant<ChatInput, TextInput, TokenInput> input;
  bool is_chat = false;  // an answer of its own, not a continuation of the prompt's text

  // Absent, as the sampling parameters below: what the model's generation_config.json says, else
  // what is left of the context (completions: 16).
  std::optional<int64_t> max_tokens;
  int64_t min_tokens = 0;
  int64_t n = 1;
  std::vector<std::string> stop;  // at most 4
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool echo = false;  // completions: the prompt comes first
  bool return_token_ids = false;
  bool wants_progress = false;

  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  double presence_penalty = 0.0, frequency_penalty = 0.0;
  std::optional<int64_t> seed;
  std::vector<std::pair<int64_t, double>> logit_bias;
  std::optional<int64_t> top_logprobs;  // absent: no logprobs

  std::optional<std::string> attention_mode;  // "auto", "moba", "full"
  std::optional<int64_t> attention_top_k;
  int64_t priority = 0;
  std::string cache_salt;
  std::string prompt_cache_key;
  std::optional<double> timeout_seconds;  // X-Request-Timeout or the RPC's deadline
};

/// What /tokenize is asked to make tokens of: a text, or a conversation as the model would see it.
using TokenizeInput = std::variant<std::string, GenerateRequest::ChatInput>;

/// The request is tokenised and waits or runs: status line and headers may go out now.
struct AdmittedEvent {
  std::vector<int32_t> prompt_tokens;  // per prompt
};
struct PrefillProgressEvent {
  int32_t choice = 0;
  int64_t processed = 0, total = 0, cached = 0;
  int64_t eta_ms = 0;
  int32_t queue_position = 0;
};
struct TokenLogprobText {
  TokenId token_id = 0;
  std::string token_bytes;  // may be part of a UTF-8 character
  float logprob = 0;
  std::vector<TokenLogprobText> top;  // empty in the alternatives themselves
};
struct DeltaEvent {
  int32_t choice = 0;
  std::string text;  // whole UTF-8 characters; may be empty when only logprobs or ids come
  std::vector<TokenLogprobText> logprobs;
  std::vector<TokenId> token_ids;  // with return_token_ids
};
struct ChoiceFinishedEvent {
  int32_t choice = 0;
  FinishReason reason = FinishReason::kStop;
};
/// Sums over the choices (prompt_tokens: over the prompts, each once).
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;  // of the first choice of each prompt
  int64_t blocks_attended = 0;
  int64_t blocks_available = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};
/// The last event, exactly once. A refusal is a stream of this event alone.
struct DoneEvent {
  Status status;
  Usage usage;
  std::optional<double> retry_after_seconds;  // with kResourceExhausted and kUnavailable
};
using GenerateEvent =
    std::variant<AdmittedEvent, PrefillProgressEvent, DeltaEvent, ChoiceFinishedEvent, DoneEvent>;

/// Where a request's events go. Called on text-pool threads, never two calls at once, in order.
/// Must not block: a client that does not read is the implementation's to detect (bounded buffer)
/// and to cancel by dropping its RequestHandle.
class GenerateStream {
 public:
  virtual ~GenerateStream() = default;
  virtual void on_event(GenerateEvent event) noexcept = 0;
};

}  // namespace quire
