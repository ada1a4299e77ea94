#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/admin/health.h"
#include "server/admin/prometheus.h"
#include "server/auth.h"
#include "server/http/json_text.h"
#include "server/http/openai_stream.h"
#include "server/inference_service.h"

namespace quire {

/// An HTTP request with its body read.
struct HttpRequest {
  std::string target;  // path only, percent-decoded
  std::string request_id;
  std::string api_key_id;
  std::optional<std::string> timeout_text;  // X-Request-Timeout
  std::string body;
};

/// What a request needs of the world. All references outlive the server.
struct RouteContext {
  InferenceService& service;
  const Health& health;
  const PrometheusExporter& exporter;
  JsonLimits json_limits;
};

/// What a route leaves running; dropping it cancels.
struct RunningAnswer {
  RequestHandle generation;
};

struct Route {
  const char* method;
  const char* path;  // a trailing '*' stands for one path segment
  bool needs_key;
  /// Called on an I/O thread or, with a large body, on a text thread. Answers through the channel,
  /// now or later.
  RunningAnswer (*handle)(RouteContext& context, HttpRequest request,
                          std::shared_ptr<AnswerChannel> channel);
};

/// A route, or the answer that says why there is none (404; 405 with Allow).
struct RouteMatch {
  const Route* route = nullptr;
  HttpAnswer refusal;
  bool needs_key = true;
};
RouteMatch find_route(const std::string& method, const std::string& path);

/// Path of a request target: without the query, percent-decoded. Null if malformed.
std::optional<std::string> decode_path(std::string_view target);

}  // namespace quire
