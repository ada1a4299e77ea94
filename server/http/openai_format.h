#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/inference_service.h"
#include "server/request.h"

namespace quire {

enum class OpenAiRoute : uint8_t { kChat, kCompletion };

/// What every object of one answer carries.
struct AnswerIdentity {
  OpenAiRoute route = OpenAiRoute::kChat;
  std::string id;  // "chatcmpl-…", "cmpl-…"
  int64_t created = 0;
  std::string model;
  std::string system_fingerprint;
  bool has_usage_field = false;  // streams with include_usage: "usage":null in every chunk
  bool has_logprobs = false;
  bool has_token_ids = false;
};

/// A choice of a whole answer, collected.
struct CollectedChoice {
  std::string text;
  std::vector<TokenLogprobText> logprobs;
  std::vector<TokenId> token_ids;
  FinishReason reason = FinishReason::kStop;
};

// Objects of OpenAI's API as JSON text, without line breaks.
std::string format_answer(const AnswerIdentity& identity,
                          const std::vector<CollectedChoice>& choices, const Usage& usage);
/// Chat only: the first chunk of a choice.
std::string format_role_chunk(const AnswerIdentity& identity, int32_t choice);
/// `text_offset`: bytes of the choice sent before; only the completion route's logprobs say it.
std::string format_delta_chunk(const AnswerIdentity& identity, const DeltaEvent& delta,
                               size_t text_offset);
std::string format_finish_chunk(const AnswerIdentity& identity, int32_t choice,
                                FinishReason reason);
/// `choices` empty; llama-server's `prompt_progress` object.
std::string format_progress_chunk(const AnswerIdentity& identity,
                                  const PrefillProgressEvent& progress, int64_t elapsed_ms);
std::string format_usage_chunk(const AnswerIdentity& identity, const Usage& usage);

std::string format_models(const ServiceConfig& config);
/// REQUIRES: `id` is served.
std::string format_model(const ServiceConfig& config, const std::string& id);
std::string format_tokens(const std::vector<TokenId>& tokens, int32_t max_model_len);
std::string format_text(const std::string& prompt);

}  // namespace quire
