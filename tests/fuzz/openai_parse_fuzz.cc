// Any body on any route is either a request or a complaint that can be sent: an invalid argument
// in a few words, and an error body that is JSON.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "server/http/openai_error.h"
#include "server/http/openai_parse.h"
#include "server/request_validation.h"

namespace {

constexpr size_t kMaxComplaintBytes = 400;

void require(bool condition) {
  if (!condition) std::abort();
}

void check_complaint(const quire::Status& status) {
  require(status.code() == quire::StatusCode::kInvalidArgument);
  require(!status.message().empty());
  require(status.message().size() <= kMaxComplaintBytes);
  const auto error = nlohmann::json::parse(quire::error_json(status)).at("error");
  require(error.size() == 4 && error.at("message").is_string());
  require(error.at("param").is_string() || error.at("param").is_null());
}

void check_generation(quire::Result<quire::OpenAiRequest> parsed) {
  if (!parsed.ok()) return check_complaint(parsed.status());
  quire::ServiceConfig config;
  config.max_model_len = 4096;
  const quire::Status judged = quire::validate(parsed->request, config, 4096);
  const int64_t num_choices = quire::num_choices(parsed->request);
  if (!judged.ok()) return check_complaint(judged);
  require(num_choices >= 1 && num_choices <= config.max_choices);
  require(quire::estimate_tokens(parsed->request) > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const quire::JsonLimits limits{.max_depth = 16, .max_values = 4096};
  check_generation(quire::parse_chat_request(body, limits));
  check_generation(quire::parse_completion_request(body, limits));
  const auto tokenize = quire::parse_tokenize_request(body, limits);
  if (!tokenize.ok()) check_complaint(tokenize.status());
  const auto detokenize = quire::parse_detokenize_request(body, limits);
  if (!detokenize.ok()) check_complaint(detokenize.status());
  return 0;
}
