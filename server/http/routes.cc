#include "server/http/routes.h"

#include <array>
#include <charconv>
#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "server/http/openai_error.h"
#include "server/http/openai_parse.h"
#include "server/request_validation.h"

namespace quire {
namespace {

using Channel = std::shared_ptr<AnswerChannel>;

RunningAnswer answer_now(const Channel& channel, HttpAnswer answer) {
  channel->respond(std::move(answer));
  return {};
}

HttpAnswer json_answer(std::string body) { return {.body = std::move(body), .headers = {}}; }

std::string make_answer_id(OpenAiRoute route) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  constexpr std::string_view kAlphabet =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id = route == OpenAiRoute::kChat ? "chatcmpl-" : "cmpl-";
  for (int i = 0; i < 24; ++i) id += kAlphabet[random() % kAlphabet.size()];
  return id;
}

Result<std::optional<double>> parse_timeout(const std::optional<std::string>& text) {
  if (!text) return std::optional<double>();
  double seconds = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (error != std::errc() || end != text->data() + text->size() || !(seconds > 0)) {
    return invalid_argument("X-Request-Timeout must be a positive number of seconds",
                            "X-Request-Timeout");
  }
  return std::optional<double>(seconds);
}

RunningAnswer generate(RouteContext& context, HttpRequest http, Channel channel, OpenAiRoute route,
                       Result<OpenAiRequest> parsed) {
  if (!parsed.ok()) return answer_now(channel, error_answer(parsed.status()));
  const Result<std::optional<double>> timeout = parse_timeout(http.timeout_text);
  if (!timeout.ok()) return answer_now(channel, error_answer(timeout.status()));
  GenerateRequest request = std::move(parsed->request);
  request.request_id = std::move(http.request_id);
  request.api_key_id = std::move(http.api_key_id);
  request.timeout_seconds = timeout.value();

  const ServiceConfig& config = context.service.config();
  AnswerIdentity identity{.route = route,
                          .id = make_answer_id(route),
                          .created = std::time(nullptr),
                          .model = name_in_answer(config, request.model),
                          .system_fingerprint = config.system_fingerprint,
                          .has_logprobs = request.top_logprobs.has_value(),
                          .has_token_ids = request.return_token_ids};
  // Ranges are checked by the service; until then the number of choices may be anything.
  const auto num_collected =
      static_cast<size_t>(std::clamp<int64_t>(num_choices(request), 0, config.max_choices));
  auto stream = parsed->wants_stream
                    ? make_event_stream(std::move(identity), parsed->wants_usage_chunk, channel)
                    : make_collecting_stream(std::move(identity), num_collected, channel);
  return {context.service.generate(std::move(request), std::move(stream))};
}

RunningAnswer chat_completions(RouteContext& context, HttpRequest http, Channel channel) {
  Result<OpenAiRequest> parsed =
      parse_chat_request(std::exchange(http.body, {}), context.json_limits);
  return generate(context, std::move(http), std::move(channel), OpenAiRoute::kChat,
                  std::move(parsed));
}

RunningAnswer completions(RouteContext& context, HttpRequest http, Channel channel) {
  Result<OpenAiRequest> parsed =
      parse_completion_request(std::exchange(http.body, {}), context.json_limits);
  return generate(context, std::move(http), std::move(channel), OpenAiRoute::kCompletion,
                  std::move(parsed));
}

RunningAnswer tokenize(RouteContext& context, HttpRequest http, Channel channel) {
  Result<TokenizeRequest> parsed = parse_tokenize_request(http.body, context.json_limits);
  if (!parsed.ok()) return answer_now(channel, error_answer(parsed.status()));
  const Status known = context.service.check_model(parsed->model);
  if (!known.ok()) return answer_now(channel, error_answer(known));
  context.service.tokenize(
      std::move(parsed->input), parsed->add_special_tokens,
      [channel, max_model_len = context.service.config().max_model_len](auto tokens) {
        channel->respond(tokens.ok() ? json_answer(format_tokens(tokens.value(), max_model_len))
                                     : error_answer(tokens.status()));
      });
  return {};
}

RunningAnswer detokenize(RouteContext& context, HttpRequest http, Channel channel) {
  Result<DetokenizeRequest> parsed = parse_detokenize_request(http.body, context.json_limits);
  if (!parsed.ok()) return answer_now(channel, error_answer(parsed.status()));
  const Status known = context.service.check_model(parsed->model);
  if (!known.ok()) return answer_now(channel, error_answer(known));
  context.service.detokenize(std::move(parsed->tokens), [channel](auto text) {
    channel->respond(text.ok() ? json_answer(format_text(text.value()))
                               : error_answer(text.status()));
  });
  return {};
}

RunningAnswer list_models(RouteContext& context, HttpRequest, Channel channel) {
  return answer_now(channel, json_answer(format_models(context.service.config())));
}

RunningAnswer get_model(RouteContext& context, HttpRequest http, Channel channel) {
  const std::string id = http.target.substr(http.target.rfind("/models/") + 8);
  const ServiceConfig& config = context.service.config();
  const Status known = context.service.check_model(id);
  return answer_now(channel, known.ok()
                                 ? json_answer(format_model(config, name_in_answer(config, id)))
                                 : error_answer(known));
}

RunningAnswer livez(RouteContext& context, HttpRequest, Channel channel) {
  Health::Answer health = context.health.livez();
  return answer_now(channel,
                    {.status = health.http_status, .body = std::move(health.body), .headers = {}});
}

RunningAnswer readyz(RouteContext& context, HttpRequest, Channel channel) {
  Health::Answer health = context.health.readyz();
  return answer_now(channel,
                    {.status = health.http_status, .body = std::move(health.body), .headers = {}});
}

RunningAnswer version(RouteContext&, HttpRequest, Channel channel) {
  return answer_now(channel, json_answer(R"({"version":")" QUIRE_VERSION R"("})"));
}

RunningAnswer metrics(RouteContext& context, HttpRequest, Channel channel) {
  return answer_now(channel, {.content_type = std::string(PrometheusExporter::kContentType),
                              .body = context.exporter.render(),
                              .headers = {}});
}

constexpr std::array<Route, 11> kRoutes{{
    {"POST", "/v1/chat/completions", true, chat_completions},
    {"POST", "/v1/completions", true, completions},
    {"GET", "/v1/models", true, list_models},
    {"GET", "/v1/models/*", true, get_model},
    {"POST", "/tokenize", true, tokenize},
    {"POST", "/detokenize", true, detokenize},
    {"GET", "/livez", false, livez},
    {"GET", "/readyz", false, readyz},
    {"GET", "/health", true, readyz},
    {"GET", "/version", true, version},
    {"GET", "/metrics", true, metrics},
}};

/// A trailing '*' takes what is left, slashes included (model names may have them).
bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return pattern == path;
  pattern.remove_suffix(1);
  return path.size() > pattern.size() && path.starts_with(pattern);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

RouteMatch find_route(const std::string& method, const std::string& path) {
  RouteMatch match;
  std::string allowed;
  for (const Route& route : kRoutes) {
    if (!matches(route.path, path)) continue;
    match.needs_key = route.needs_key;
    if (method == route.method) {
      match.route = &route;
      return match;
    }
    allowed.append(allowed.empty() ? "" : ", ").append(route.method);
  }
  if (allowed.empty()) {
    match.refusal = protocol_error_answer(404, "there is no route " + path, "not_found");
  } else {
    match.refusal = protocol_error_answer(405, method + " is not allowed here; " + allowed + " is",
                                          "method_not_allowed");
    match.refusal.headers.emplace_back("Allow", allowed);
  }
  return match;
}

std::optional<std::string> decode_path(std::string_view target) {
  const std::string_view encoded = target.substr(0, target.find_first_of("?#"));
  if (!encoded.starts_with('/')) return std::nullopt;
  std::string path;
  for (size_t i = 0; i < encoded.size(); ++i) {
    if (encoded[i] != '%') {
      path += encoded[i];
      continue;
    }
    if (i + 2 >= encoded.size()) return std::nullopt;
    const int high = hex_digit(encoded[i + 1]), low = hex_digit(encoded[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return path;
}

}  // namespace quire
