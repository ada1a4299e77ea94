#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_request.h"
#include "tests/simulation/scenario.h"

namespace quire {

/// The other end of one sequence: hears its events, knows what they should be, and keeps what is
/// wrong about them.
class SimulatedClient final : public EventSink {
 public:
  explicit SimulatedClient(Order order) : order_(std::move(order)) {}

  void on_event(EngineEvent event) noexcept override;

  /// What may have ended it early, beside its own cancel and deadline.
  struct Circumstances {
    Clock::TimePoint now;
    bool was_cancelled = false;
    bool was_in_failed_step = false;
    bool is_engine_healthy = true;
    bool is_engine_stopped = false;
  };
  /// Once its end has come.
  void judge_end(const Circumstances& circumstances);

  const Order& order() const { return order_; }
  const std::optional<FinishEvent>& finish() const { return finish_; }
  const std::vector<std::string>& violations() const { return violations_; }

  std::function<void()> cancel;  // called within an event, after order().cancel_after tokens

 private:
  void hear(const QueuedEvent&);
  void hear(const ProgressEvent& event);
  void hear(const TokenEvent& event);
  void hear(const FinishEvent& event);
  bool may_end_so(const Circumstances& circumstances) const;
  void judge_usage();
  void blame(const char* what) { violations_.emplace_back(what); }

  Order order_;
  bool is_queued_ = false;
  int32_t processed_ = 0;
  std::vector<TokenId> tokens_;
  std::optional<FinishEvent> finish_;
  std::vector<std::string> violations_;
};

}  // namespace quire
