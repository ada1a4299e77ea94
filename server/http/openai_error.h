#pragma once

#include <optional>
#include <string>

#include "engine/core/status.h"
#include "server/http/http_answer.h"

namespace quire {

/// {"error":{"message","type","param","code"}}; all four keys, code a string or null. Bytes in
/// the status that are no UTF-8 become U+FFFD.
std::string error_json(const Status& status);

/// The whole answer of a refusal or failure, Retry-After and x-should-retry included.
HttpAnswer error_answer(const Status& status,
                        std::optional<double> retry_after_seconds = std::nullopt);

/// For what is wrong with the HTTP request itself (405, 408, 413, …): an invalid_request_error.
HttpAnswer protocol_error_answer(int http_status, const std::string& message,
                                 const std::string& code);

}  // namespace quire
