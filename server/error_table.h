#pragma once

#include <string>

#include "engine/core/status.h"

namespace quire {

/// How a canonical code (which gRPC sends as it is) looks over HTTP.
struct HttpError {
  int http_status;
  const char* type;  // OpenAI's error.type
  const char* code;  // error.code where the status has no detail; may be null
  bool worth_repeating;
};

/// THE table from code to HTTP. REQUIRES: code is not kOk.
const HttpError& http_error(StatusCode code);

/// What both protocols call the error: its detail, else the table's code; may be empty.
std::string error_code(const Status& status);

}  // namespace quire
