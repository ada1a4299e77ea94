#include "engine/scheduler/queue_gate.h"

#include <string>

#include "kernels/check.h"

namespace quire {

class QueueGate::Ticket final : public QueueTicket {
 public:
  Ticket(std::shared_ptr<QueueGate> gate, int64_t num_tokens)
      : gate_(std::move(gate)), num_tokens_(num_tokens) {}
  ~Ticket() override { gate_->waiting_ -= kOneRequest + static_cast<uint64_t>(num_tokens_); }

  void correct(int64_t num_tokens) override {
    QUIRE_CHECK(num_tokens >= 0) << "num_tokens=" << num_tokens;
    // A difference below zero wraps around, as does the sum: the result is right.
    gate_->waiting_ += static_cast<uint64_t>(num_tokens) - static_cast<uint64_t>(num_tokens_);
    num_tokens_ = num_tokens;
  }

 private:
  const std::shared_ptr<QueueGate> gate_;
  int64_t num_tokens_;
};

Result<std::unique_ptr<QueueTicket>> QueueGate::enter(int64_t estimated_tokens) {
  QUIRE_CHECK(estimated_tokens >= 0 && estimated_tokens < int64_t{1} << (kTokenBits - 1))
      << "estimated_tokens=" << estimated_tokens;
  uint64_t waiting = waiting_.load();
  do {
    const int32_t num_requests = num_requests_of(waiting);
    const int64_t num_tokens = num_tokens_of(waiting);
    if (num_requests >= max_requests_ ||
        (num_requests > 0 && num_tokens + estimated_tokens > max_tokens_)) {
      return Status(StatusCode::kResourceExhausted,
                    "the queue is full: " + std::to_string(num_requests) + " requests with about " +
                        std::to_string(num_tokens) + " tokens wait; try again later",
                    {}, "rate_limit_exceeded");
    }
  } while (!waiting_.compare_exchange_weak(
      waiting, waiting + kOneRequest + static_cast<uint64_t>(estimated_tokens)));
  return std::unique_ptr<QueueTicket>(
      std::make_unique<Ticket>(shared_from_this(), estimated_tokens));
}

}  // namespace quire
