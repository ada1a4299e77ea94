#include "tests/simulation/simulated_client.h"

#include <algorithm>
#include <variant>

namespace quire {

void SimulatedClient::on_event(EngineEvent event) noexcept {
  if (finish_) blame("an event after the end");
  std::visit([this](const auto& one) { hear(one); }, event);
}

void SimulatedClient::hear(const QueuedEvent&) {
  if (is_queued_ || !tokens_.empty() || processed_ > 0) blame("queued twice or late");
  is_queued_ = true;
}

void SimulatedClient::hear(const ProgressEvent& event) {
  const auto total = static_cast<int32_t>(order_.arguments.prompt.size());
  if (!is_queued_ || !tokens_.empty()) blame("progress before the queue or after a token");
  if (!order_.wants_progress) blame("progress that was not asked for");
  if (event.total != total || event.processed <= processed_ || event.processed > total ||
      event.cached >= total || event.processed <= event.cached) {
    blame("impossible progress");
  }
  processed_ = event.processed;
}

void SimulatedClient::hear(const TokenEvent& event) {
  if (!is_queued_) blame("a token before the queue");
  tokens_.push_back(event.token);
  if (order_.cancel_after && std::ssize(tokens_) == *order_.cancel_after) cancel();
}

void SimulatedClient::hear(const FinishEvent& event) { finish_ = event; }

void SimulatedClient::judge_end(const Circumstances& circumstances) {
  const std::vector<TokenId>& expected = order_.completion;
  const bool is_prefix = tokens_.size() <= expected.size() &&
                         std::equal(tokens_.begin(), tokens_.end(), expected.begin());
  if (!is_prefix) {
    blame("wrong tokens");
    return;
  }
  if (!may_end_so(circumstances)) {
    violations_.push_back("ends without cause: reason " +
                          std::to_string(static_cast<int>(finish_->reason)) + ", " +
                          finish_->status.message());
  }
  judge_usage();
}

bool SimulatedClient::may_end_so(const Circumstances& circumstances) const {
  const bool is_stopping = circumstances.is_engine_stopped;
  switch (finish_->status.code()) {
    case StatusCode::kOk:
      return finish_->reason == order_.reason && tokens_.size() == order_.completion.size();
    case StatusCode::kCancelled:
      return finish_->reason == FinishReason::kCancelled && circumstances.was_cancelled;
    case StatusCode::kDeadlineExceeded:
      return finish_->reason == FinishReason::kError && order_.deadline &&
             *order_.deadline <= circumstances.now;
    case StatusCode::kInternal:
      return finish_->reason == FinishReason::kError && circumstances.was_in_failed_step;
    case StatusCode::kUnavailable:
      return finish_->reason == FinishReason::kCancelled ? is_stopping
                                                         : !circumstances.is_engine_healthy;
    default:
      return false;
  }
}

void SimulatedClient::judge_usage() {
  const SequenceUsage& usage = finish_->usage;
  const auto num_prompt = static_cast<int32_t>(order_.arguments.prompt.size());
  if (usage.completion_tokens != std::ssize(tokens_)) blame("usage counts other tokens");
  if (usage.prompt_tokens != num_prompt) blame("usage counts another prompt");
  if (usage.cached_tokens < 0 || usage.cached_tokens >= num_prompt) {
    blame("usage counts too many cached tokens");
  }
  if (usage.blocks_attended > usage.blocks_available) blame("attended more than there is");
  if (usage.queue_seconds < 0 || usage.prefill_seconds < 0 || usage.decode_seconds < 0) {
    blame("a negative duration");
  }
}

}  // namespace quire
