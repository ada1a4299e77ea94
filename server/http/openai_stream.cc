#include "server/http/openai_stream.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <exception>
#include <map>
#include <utility>

#include "server/http/openai_error.h"

namespace quire {
namespace {

std::string sse_event(const std::string& data) { return "data: " + data + "\n\n"; }

int64_t milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               start)
      .count();
}

/// Forwards events to a visitor; no exception (out of memory, at worst) leaves a callback.
template <class Visitor>
void visit_event(Visitor& visitor, GenerateEvent event) noexcept {
  try {
    std::visit([&](auto& alternative) { visitor.on(alternative); }, event);
  } catch (const std::exception& error) {
    spdlog::error("an answer was lost: {}", error.what());
    visitor.fail();
  }
}

class EventStream final : public GenerateStream {
 public:
  EventStream(AnswerIdentity identity, bool wants_usage_chunk,
              std::shared_ptr<AnswerChannel> channel)
      : identity_(std::move(identity)),
        wants_usage_chunk_(wants_usage_chunk),
        channel_(std::move(channel)) {
    identity_.has_usage_field = wants_usage_chunk;
  }

  void on_event(GenerateEvent event) noexcept override { visit_event(*this, std::move(event)); }

  void on(AdmittedEvent&) {
    has_begun_ = true;
    channel_->begin_stream();
  }
  void on(PrefillProgressEvent& progress) {
    if (!choices_.empty()) return;  // once tokens flow, nobody waits for progress
    send(format_progress_chunk(identity_, progress, milliseconds_since(start_)));
  }
  void on(DeltaEvent& delta) {
    size_t& num_sent_bytes = open_choice(delta.choice);
    send(format_delta_chunk(identity_, delta, num_sent_bytes));
    num_sent_bytes += delta.text.size();
  }
  void on(ChoiceFinishedEvent& finished) {
    open_choice(finished.choice);
    send(format_finish_chunk(identity_, finished.choice, finished.reason));
  }
  void on(DoneEvent& done) {
    if (!has_begun_) {
      return channel_->respond(error_answer(done.status, done.retry_after_seconds));
    }
    if (!done.status.ok()) {
      send(error_json(done.status));
      return channel_->end_stream();
    }
    if (wants_usage_chunk_) send(format_usage_chunk(identity_, done.usage));
    send("[DONE]");
    channel_->end_stream();
  }
  void fail() noexcept { channel_->end_stream(); }

 private:
  void send(const std::string& data) { channel_->send(sse_event(data)); }

  /// Bytes of text sent so far; the role chunk goes out with the first of anything.
  size_t& open_choice(int32_t choice) {
    const auto [entry, is_first] = choices_.try_emplace(choice, 0);
    if (is_first && identity_.route == OpenAiRoute::kChat) {
      send(format_role_chunk(identity_, choice));
    }
    return entry->second;
  }

  AnswerIdentity identity_;
  bool wants_usage_chunk_;
  bool has_begun_ = false;
  std::shared_ptr<AnswerChannel> channel_;
  std::map<int32_t, size_t> choices_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class CollectingStream final : public GenerateStream {
 public:
  CollectingStream(AnswerIdentity identity, size_t num_choices,
                   std::shared_ptr<AnswerChannel> channel)
      : identity_(std::move(identity)), choices_(num_choices), channel_(std::move(channel)) {}

  void on_event(GenerateEvent event) noexcept override { visit_event(*this, std::move(event)); }

  void on(AdmittedEvent&) {}
  void on(PrefillProgressEvent&) {}
  void on(DeltaEvent& delta) {
    CollectedChoice& choice = choices_.at(static_cast<size_t>(delta.choice));
    choice.text += delta.text;
    std::move(delta.logprobs.begin(), delta.logprobs.end(), std::back_inserter(choice.logprobs));
    choice.token_ids.insert(choice.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
  }
  void on(ChoiceFinishedEvent& finished) {
    choices_.at(static_cast<size_t>(finished.choice)).reason = finished.reason;
  }
  void on(DoneEvent& done) {
    if (!done.status.ok()) {
      return channel_->respond(error_answer(done.status, done.retry_after_seconds));
    }
    channel_->respond({.body = format_answer(identity_, choices_, done.usage), .headers = {}});
  }
  void fail() noexcept {
    channel_->respond(error_answer(Status(StatusCode::kInternal, "the answer was lost")));
  }

 private:
  AnswerIdentity identity_;
  std::vector<CollectedChoice> choices_;
  std::shared_ptr<AnswerChannel> channel_;
};

}  // namespace

std::shared_ptr<GenerateStream> make_event_stream(AnswerIdentity identity, bool wants_usage_chunk,
                                                  std::shared_ptr<AnswerChannel> channel) {
  return std::make_shared<EventStream>(std::move(identity), wants_usage_chunk, std::move(channel));
}

std::shared_ptr<GenerateStream> make_collecting_stream(AnswerIdentity identity, size_t num_choices,
                                                       std::shared_ptr<AnswerChannel> channel) {
  return std::make_shared<CollectingStream>(std::move(identity), num_choices, std::move(channel));
}

}  // namespace quire
