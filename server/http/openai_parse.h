#pragma once

#include <string>
#include <string_view>

#include "server/http/json_text.h"
#include "server/request.h"

namespace quire {

/// A generation as an OpenAI client asks for it: the request, and how the answer travels.
struct OpenAiRequest {
  GenerateRequest request;  // request_id, api_key_id and timeout_seconds are the caller's to fill
  bool wants_stream = false;
  bool wants_usage_chunk = false;  // stream_options.include_usage
};

// Bodies of /v1/chat/completions and /v1/completions. Types and unsupported features are judged
// here; ranges are InferenceService's. Every complaint names its field. Unknown fields pass.
Result<OpenAiRequest> parse_chat_request(std::string_view body, const JsonLimits& limits);
Result<OpenAiRequest> parse_completion_request(std::string_view body, const JsonLimits& limits);

struct TokenizeRequest {
  std::string model;
  TokenizeInput input;
  bool add_special_tokens = true;
};
struct DetokenizeRequest {
  std::string model;
  std::vector<int64_t> tokens;
};
Result<TokenizeRequest> parse_tokenize_request(std::string_view body, const JsonLimits& limits);
Result<DetokenizeRequest> parse_detokenize_request(std::string_view body, const JsonLimits& limits);

}  // namespace quire
