#pragma once

#include <string>

#include "server/http/openai_parse.h"

// Request bodies for the tests of the parser.

namespace quire {

/// A good chat body with `fields` ("\"n\":2,…"; may be empty) before its messages.
inline std::string chat_body(const std::string& fields) {
  return "{" + fields + (fields.empty() ? "" : ",") +
         R"("messages":[{"role":"user","content":"hi"}]})";
}

/// The same for a completion.
inline std::string completion_body(const std::string& fields) {
  return "{" + fields + (fields.empty() ? "" : ",") + R"("prompt":"hi"})";
}

inline Result<OpenAiRequest> parse_chat(const std::string& body) {
  return parse_chat_request(body, JsonLimits{});
}
inline Result<OpenAiRequest> parse_completion(const std::string& body) {
  return parse_completion_request(body, JsonLimits{});
}

/// A body and what the complaint about it must say.
struct BadBody {
  std::string text;     // a body, or the fields of one
  std::string param;    // error.param
  std::string message;  // some of error.message
};

}  // namespace quire
