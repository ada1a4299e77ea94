#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace quire {

/// Messages from many threads to one, in order of arrival. Unbounded: who posts is bounded
/// elsewhere. Any thread may post and close; one thread takes and waits.
template <class Message>
class Mailbox {
 public:
  /// False once closed; the message is then dropped.
  bool post(Message message) {
    {
      const std::lock_guard lock(mutex_);
      if (is_closed_) return false;
      messages_.push_back(std::move(message));
    }
    arrived_.notify_one();
    return true;
  }

  /// Everything that has arrived, without waiting.
  std::vector<Message> take_all() {
    const std::lock_guard lock(mutex_);
    return std::exchange(messages_, {});
  }

  /// Returns when a message is there, the mailbox is closed, or `timeout` has passed.
  template <class Rep, class Period>
  void wait_for(std::chrono::duration<Rep, Period> timeout) {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, timeout, [this] { return !messages_.empty() || is_closed_; });
  }

  /// Refuses further messages; those that are in can still be taken.
  void close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    arrived_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Message> messages_;
  bool is_closed_ = false;
};

}  // namespace quire
