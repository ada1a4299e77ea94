#pragma once

#include <string>

#include "engine/core/clock.h"
#include "engine/core/metrics.h"
#include "engine/engine.h"

namespace quire {

/// What /livez, /readyz and /health say, and grpc.health.v1 with them. Reads atomics only; never
/// generates, never waits for the engine thread. Thread-safe.
class Health {
 public:
  struct Answer {
    int http_status = 200;
    std::string body;  // JSON
  };

  Health(const Engine& engine, const EngineMetrics& metrics, const Clock& clock)
      : engine_(&engine), metrics_(&metrics), clock_(&clock) {}

  Answer livez() const;   // 200 with the age of the last engine turn; 503 when it is unhealthy
  Answer readyz() const;  // 503 while draining or unhealthy
  bool is_ready() const;

 private:
  const Engine* engine_;
  const EngineMetrics* metrics_;
  const Clock* clock_;
};

}  // namespace quire
