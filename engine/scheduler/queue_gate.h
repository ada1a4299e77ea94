#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/core/status.h"
#include "engine/engine_request.h"

namespace quire {

/// Bounds what waits, by requests and by tokens, before any of it is tokenised: the estimate is
/// taken from the text's size and corrected once the ids exist. Any thread; lock-free.
class QueueGate : public std::enable_shared_from_this<QueueGate> {
 public:
  QueueGate(int32_t max_requests, int64_t max_tokens)
      : max_requests_(max_requests), max_tokens_(max_tokens) {}

  /// kResourceExhausted ("rate_limit_exceeded") when full. A single request larger than the token
  /// limit is let in while nothing else waits. Requires that a shared_ptr owns the gate.
  Result<std::unique_ptr<QueueTicket>> enter(int64_t estimated_tokens);

  int32_t num_requests() const;
  int64_t num_tokens() const;

  /// For tickets.
  void leave(int64_t num_tokens);
  void change_tokens(int64_t difference);

 private:
  int32_t max_requests_;
  int64_t max_tokens_;
  std::atomic<int32_t> num_requests_{0};
  std::atomic<int64_t> num_tokens_{0};
};

}  // namespace quire
