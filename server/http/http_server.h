#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/admin/health.h"
#include "server/admin/prometheus.h"
#include "server/auth.h"
#include "server/inference_service.h"

namespace quire {

struct HttpServerConfig {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0 = any free one; see HttpServer::port
  int num_threads = 2;
  int64_t max_body_bytes = 64 << 20;
  int32_t max_header_bytes = 16 << 10;
  int32_t max_connections = 4096;
  int32_t max_json_depth = 64;
  double header_timeout_seconds = 10;  // from accept, or the previous answer's end if bytes came
  double body_stall_timeout_seconds = 30;     // no byte of a body for so long: 408 and close
  double idle_timeout_seconds = 75;           // keep-alive connections without a request
  double keepalive_comment_seconds = 15;      // ':' comments on silent streams
  int64_t max_unsent_stream_bytes = 1 << 20;  // a client further behind than this is cut off
  double write_stall_timeout_seconds = 60;    // …and one that takes nothing for so long
};

/// HTTP/1.1 on Boost.Beast: one strand per connection, `num_threads` I/O threads. Never tokenises,
/// never touches engine state, never blocks.
class HttpServer {
 public:
  /// Binds and listens; throws std::runtime_error naming host and port if it cannot. References
  /// must outlive the server.
  HttpServer(const HttpServerConfig& config, InferenceService& service, const Authenticator& auth,
             const Health& health, const PrometheusExporter& exporter, HttpMetrics& metrics);
  ~HttpServer();

  void start();
  uint16_t port() const;
  /// Stops accepting and lets running answers finish until `deadline`; closes what is left, joins.
  void stop(Clock::TimePoint deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
