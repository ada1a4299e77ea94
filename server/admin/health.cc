#include "server/admin/health.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

namespace quire {

Health::Answer Health::livez() const {
  const bool is_healthy = engine_->is_healthy();
  const auto now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(clock_->now().time_since_epoch())
          .count();
  const int64_t last_step_ms = metrics_->last_step_ms.value();
  nlohmann::ordered_json body;
  body["status"] = is_healthy ? "ok" : "unhealthy";
  body["last_step_age_ms"] = last_step_ms > 0 ? std::max<int64_t>(now_ms - last_step_ms, 0) : 0;
  return {is_healthy ? 200 : 503, body.dump()};
}

Health::Answer Health::readyz() const {
  nlohmann::ordered_json body;
  body["status"] = is_ready() ? "ready" : engine_->is_draining() ? "draining" : "unhealthy";
  return {is_ready() ? 200 : 503, body.dump()};
}

bool Health::is_ready() const { return engine_->is_healthy() && !engine_->is_draining(); }

}  // namespace quire
