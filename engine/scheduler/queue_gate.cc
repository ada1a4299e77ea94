#include "engine/scheduler/queue_gate.h"

#include <string>

namespace quire {
namespace {

class Ticket final : public QueueTicket {
 public:
  Ticket(std::shared_ptr<QueueGate> gate, int64_t num_tokens)
      : gate_(std::move(gate)), num_tokens_(num_tokens) {}
  ~Ticket() override { gate_->leave(num_tokens_); }
  void correct(int64_t num_tokens) override {
    gate_->change_tokens(num_tokens - num_tokens_);
    num_tokens_ = num_tokens;
  }

 private:
  std::shared_ptr<QueueGate> gate_;
  int64_t num_tokens_;
};

}  // namespace

Result<std::unique_ptr<QueueTicket>> QueueGate::enter(int64_t estimated_tokens) {
  const int32_t requests_before = num_requests_.fetch_add(1);
  const int64_t tokens_before = num_tokens_.fetch_add(estimated_tokens);
  const bool too_many_requests = requests_before >= max_requests_;
  const bool too_many_tokens =
      requests_before > 0 && tokens_before + estimated_tokens > max_tokens_;
  if (too_many_requests || too_many_tokens) {
    leave(estimated_tokens);
    return Status(StatusCode::kResourceExhausted,
                  "the queue is full: " + std::to_string(requests_before) +
                      " requests with about " + std::to_string(tokens_before) +
                      " tokens wait; try again later",
                  {}, "rate_limit_exceeded");
  }
  return std::unique_ptr<QueueTicket>(
      std::make_unique<Ticket>(shared_from_this(), estimated_tokens));
}

void QueueGate::leave(int64_t num_tokens) {
  num_requests_.fetch_sub(1);
  num_tokens_.fetch_sub(num_tokens);
}

void QueueGate::change_tokens(int64_t difference) { num_tokens_.fetch_add(difference); }

int32_t QueueGate::num_requests() const { return num_requests_.load(); }
int64_t QueueGate::num_tokens() const { return num_tokens_.load(); }

}  // namespace quire
