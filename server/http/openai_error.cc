#include "server/http/openai_error.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "server/error_table.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

std::string body_of(const std::string& message, const std::string& type, Json param, Json code) {
  Json error;
  error["message"] = message;
  error["type"] = type;
  error["param"] = std::move(param);
  error["code"] = std::move(code);
  return Json{{"error", std::move(error)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string error_json(const Status& status) {
  const HttpError& error = http_error(status.code());
  Json param = nullptr, code = nullptr;
  if (!status.param().empty()) param = status.param();
  if (std::string known = error_code(status); !known.empty()) code = std::move(known);
  return body_of(status.message(), error.type, std::move(param), std::move(code));
}

HttpAnswer error_answer(const Status& status, std::optional<double> retry_after_seconds) {
  const HttpError& error = http_error(status.code());
  HttpAnswer answer{.status = error.http_status, .body = error_json(status), .headers = {}};
  if (retry_after_seconds) {
    const auto seconds = static_cast<int64_t>(std::ceil(*retry_after_seconds));
    answer.headers.emplace_back("Retry-After", std::to_string(seconds));
  }
  if (error.http_status >= 500 && !error.worth_repeating) {
    answer.headers.emplace_back("x-should-retry", "false");
  }
  if (error.http_status == 401) answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

HttpAnswer protocol_error_answer(int http_status, const std::string& message,
                                 const std::string& code) {
  return {.status = http_status,
          .body = body_of(message, "invalid_request_error", nullptr, code),
          .headers = {}};
}

}  // namespace quire
