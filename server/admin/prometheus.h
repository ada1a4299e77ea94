#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/core/metrics.h"

namespace quire {

/// Counts of the protocol edge. Any thread.
struct HttpMetrics {
  Gauge open_connections;
  Gauge open_streams;
  Counter responses_2xx, responses_4xx, responses_5xx;
  Counter requests_rejected;     // 429 and 503
  Counter clients_disconnected;  // before their answer was complete
};

/// Renders the metrics for a scrape (prometheus-cpp's text format): `quire_…`, and the
/// `vllm:…` aliases that the Gateway API endpoint picker reads. Thread-safe.
class PrometheusExporter {
 public:
  PrometheusExporter(const EngineMetrics& engine, const HttpMetrics& http, std::string model_name,
                     int block_size);
  ~PrometheusExporter();
  std::string render() const;
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
