#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "engine/core/clock.h"

namespace quire {

/// The calls that are being answered: what a stop has to wait for, unlike connections that are
/// merely open. Thread-safe.
class OpenCalls {
 public:
  /// One call, from its construction to its destruction.
  class Call {
   public:
    explicit Call(OpenCalls& calls) : calls_(calls) {
      const std::lock_guard lock(calls_.mutex_);
      ++calls_.num_calls_;
    }
    ~Call() {
      const std::lock_guard lock(calls_.mutex_);
      if (--calls_.num_calls_ == 0) calls_.all_done_.notify_all();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    OpenCalls& calls_;
  };

  /// Returns when no call is open, at `deadline` at the latest.
  void wait_until_none(Clock::TimePoint deadline) {
    std::unique_lock lock(mutex_);
    all_done_.wait_until(lock, deadline, [this] { return num_calls_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_done_;
  int64_t num_calls_ = 0;
};

}  // namespace quire
