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

/// What the KV pool is made of.
struct KvPoolFacts {
  int block_size = 0;
  std::string dtype;  // of keys and values: "bf16", "int8"
  int64_t num_bytes = 0;
};

/// Renders the metrics for a scrape (prometheus-cpp's text format): `quire_…`, and the
/// `vllm:…` aliases that the Gateway API endpoint picker reads. Thread-safe.
class PrometheusExporter {
 public:
  PrometheusExporter(const EngineMetrics& engine, const HttpMetrics& http, std::string model_name,
                     KvPoolFacts kv_pool);
  ~PrometheusExporter();
  std::string render() const;
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
