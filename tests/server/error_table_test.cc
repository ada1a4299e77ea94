#include "server/error_table.h"

#include <grpcpp/support/status.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/http/openai_error.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

struct ErrorKind {
  StatusCode code;
  grpc::StatusCode grpc_code;
  int http_status;
  std::string type;
  Json default_code;
};

const std::vector<ErrorKind> kKinds = {
    {StatusCode::kCancelled, grpc::CANCELLED, 499, "invalid_request_error", "request_cancelled"},
    {StatusCode::kInvalidArgument, grpc::INVALID_ARGUMENT, 400, "invalid_request_error", nullptr},
    {StatusCode::kDeadlineExceeded, grpc::DEADLINE_EXCEEDED, 504, "server_error",
     "deadline_exceeded"},
    {StatusCode::kNotFound, grpc::NOT_FOUND, 404, "invalid_request_error", "not_found"},
    {StatusCode::kResourceExhausted, grpc::RESOURCE_EXHAUSTED, 429, "rate_limit_error",
     "rate_limit_exceeded"},
    {StatusCode::kUnimplemented, grpc::UNIMPLEMENTED, 501, "server_error", "not_implemented"},
    {StatusCode::kInternal, grpc::INTERNAL, 500, "server_error", "internal_error"},
    {StatusCode::kUnavailable, grpc::UNAVAILABLE, 503, "server_error", "unavailable"},
    {StatusCode::kUnauthenticated, grpc::UNAUTHENTICATED, 401, "invalid_request_error",
     "invalid_api_key"},
};

std::string header(const HttpAnswer& answer, const std::string& name) {
  for (const auto& [key, value] : answer.headers) {
    if (key == name) return value;
  }
  return "absent";
}

TEST_CASE("every kind of error has its status, type and code over both protocols") {
  for (const ErrorKind& kind : kKinds) {
    CAPTURE(kind.http_status);
    CHECK(static_cast<int>(kind.code) == static_cast<int>(kind.grpc_code));
    CHECK(http_error(kind.code).http_status == kind.http_status);
    const HttpAnswer answer = error_answer(Status(kind.code, "words"));
    CHECK(answer.status == kind.http_status);
    CHECK(answer.content_type == "application/json");
    const Json error = Json::parse(answer.body).at("error");
    CHECK(error.at("message") == "words");
    CHECK(error.at("type") == kind.type);
    CHECK(error.at("param") == nullptr);
    CHECK(error.at("code") == kind.default_code);
  }
}

TEST_CASE("an error body has exactly four keys in their order") {
  CHECK(error_json(Status(StatusCode::kNotFound, "no \"m\"", "model", "model_not_found")) ==
        R"({"error":{"message":"no \"m\"","type":"invalid_request_error","param":"model",)"
        R"("code":"model_not_found"}})");
  CHECK(error_json(invalid_argument("bad")) ==
        R"({"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}})");
  CHECK(protocol_error_answer(413, "too large", "request_too_large").body ==
        R"({"error":{"message":"too large","type":"invalid_request_error","param":null,)"
        R"("code":"request_too_large"}})");
  CHECK(protocol_error_answer(413, "too large", "request_too_large").status == 413);
}

TEST_CASE("an error body is UTF-8 whatever the message quotes") {
  const Json body = Json::parse(error_json(invalid_argument("read '\xff\xc3'", "p\xfe")));
  CHECK(body["error"]["message"] == "read '\xEF\xBF\xBD\xEF\xBF\xBD'");
  CHECK(body["error"]["param"] == "p\xEF\xBF\xBD");
}

TEST_CASE("a full second is the least that a client is told to wait") {
  const Status full(StatusCode::kResourceExhausted, "full");
  CHECK(header(error_answer(full, 0.2), "Retry-After") == "1");
  CHECK(header(error_answer(full, 2.0), "Retry-After") == "2");
  CHECK(header(error_answer(full, 2.1), "Retry-After") == "3");
  CHECK(header(error_answer(full), "Retry-After") == "absent");
}

TEST_CASE("only a failure that repeats is marked so") {
  for (const ErrorKind& kind : kKinds) {
    CAPTURE(kind.http_status);
    const bool repeats =
        kind.http_status == 500 || kind.http_status == 501 || kind.http_status == 504;
    CHECK(header(error_answer(Status(kind.code, "x")), "x-should-retry") ==
          (repeats ? "false" : "absent"));
  }
}

TEST_CASE("a refused key says which kind of key is wanted") {
  CHECK(header(error_answer(Status(StatusCode::kUnauthenticated, "x")), "WWW-Authenticate") ==
        "Bearer");
  CHECK(header(error_answer(invalid_argument("x")), "WWW-Authenticate") == "absent");
}

}  // namespace
}  // namespace quire
