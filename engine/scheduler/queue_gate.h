#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/core/status.h"
#include "engine/engine_request.h"

namespace quire {

/// Bounds what waits, by requests and by tokens, before any of it is tokenised: the estimate is
/// taken from the text's size and corrected once the ids exist. Any thread; lock-free. Both counts
/// live in one word, so that no order of arrivals admits more than the limits or refuses less.
class QueueGate : public std::enable_shared_from_this<QueueGate> {
 public:
  QueueGate(int32_t max_requests, int64_t max_tokens)
      : max_requests_(max_requests), max_tokens_(max_tokens) {}

  /// kResourceExhausted ("rate_limit_exceeded") when full. A single request larger than the token
  /// limit is let in while nothing else waits. A correction never refuses: what is in stays in.
  /// REQUIRES: a shared_ptr owns the gate; 0 <= estimated_tokens < 2^39.
  Result<std::unique_ptr<QueueTicket>> enter(int64_t estimated_tokens);

  int32_t num_requests() const { return num_requests_of(waiting_.load()); }
  int64_t num_tokens() const { return num_tokens_of(waiting_.load()); }

 private:
  class Ticket;

  /// Requests in the upper 24 bits, tokens in the lower 40.
  static constexpr int kTokenBits = 40;
  static constexpr uint64_t kOneRequest = uint64_t{1} << kTokenBits;
  static int32_t num_requests_of(uint64_t waiting) {
    return static_cast<int32_t>(waiting >> kTokenBits);
  }
  static int64_t num_tokens_of(uint64_t waiting) {
    return static_cast<int64_t>(waiting & (kOneRequest - 1));
  }

  const int32_t max_requests_;
  const int64_t max_tokens_;
  std::atomic<uint64_t> waiting_{0};
};

}  // namespace quire
