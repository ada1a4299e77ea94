#include "server/error_table.h"

#include <array>
#include <utility>

#include "kernels/check.h"

namespace quire {
namespace {

constexpr const char* kInvalidRequest = "invalid_request_error";
constexpr const char* kServerError = "server_error";

constexpr std::array<std::pair<StatusCode, HttpError>, 9> kTable{{
    {StatusCode::kCancelled, {499, kInvalidRequest, "request_cancelled", false}},
    {StatusCode::kInvalidArgument, {400, kInvalidRequest, nullptr, false}},
    {StatusCode::kDeadlineExceeded, {504, kServerError, "deadline_exceeded", false}},
    {StatusCode::kNotFound, {404, kInvalidRequest, "not_found", false}},
    {StatusCode::kResourceExhausted, {429, "rate_limit_error", "rate_limit_exceeded", true}},
    {StatusCode::kUnimplemented, {501, kServerError, "not_implemented", false}},
    {StatusCode::kInternal, {500, kServerError, "internal_error", false}},
    {StatusCode::kUnavailable, {503, kServerError, "unavailable", true}},
    {StatusCode::kUnauthenticated, {401, kInvalidRequest, "invalid_api_key", false}},
}};

}  // namespace

const HttpError& http_error(StatusCode code) {
  for (const auto& [known, error] : kTable) {
    if (known == code) return error;
  }
  QUIRE_CHECK(false) << "no HTTP error for status code " << static_cast<int>(code);
  return kTable.front().second;
}

std::string error_code(const Status& status) {
  if (!status.detail().empty()) return status.detail();
  const char* code = http_error(status.code()).code;
  return code != nullptr ? code : "";
}

}  // namespace quire
