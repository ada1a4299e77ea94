#include "kernels/cpu/worker_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace quire::cpu {
namespace {

constexpr uint32_t kWorkers = 0x7fff;  // how many are in the loop
constexpr uint32_t kOpen = 0x8000;     // more may join
constexpr uint32_t kNumber = 0xffff0000;
constexpr uint32_t kNextNumber = 0x10000;

/// How long a thread looks out for the next loop, or for the last items of others, before it
/// sleeps. Longer than what lies between two loops of a step, so that a step wakes its workers once
/// at most; short beside a scheduler's time slice.
constexpr std::chrono::microseconds kLookout{50};
constexpr int kLooksPerGlanceAtClock = 32;

thread_local WorkerPool* pool_of_this_thread = nullptr;
thread_local int this_thread_index = 0;

void pause_thread() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Returns whether the condition came true in time.
template <class Condition>
bool look_out(const Condition& condition) {
  const auto until = std::chrono::steady_clock::now() + kLookout;
  do {
    for (int i = 0; i < kLooksPerGlanceAtClock; ++i) {
      if (condition()) return true;
      pause_thread();
    }
  } while (std::chrono::steady_clock::now() < until);
  return condition();
}

}  // namespace

WorkerPool* WorkerPool::of_this_thread() { return pool_of_this_thread; }
int WorkerPool::index_of_this_thread() { return this_thread_index; }

WorkerPool::Scope::Scope(WorkerPool* pool) : before_(std::exchange(pool_of_this_thread, pool)) {}
WorkerPool::Scope::~Scope() { pool_of_this_thread = before_; }

WorkerPool::WorkerPool(int num_threads) {
  const int num_workers = std::clamp(num_threads - 1, 0, static_cast<int>(kWorkers));
  for (int i = 1; i <= num_workers; ++i) workers_.emplace_back([this, i] { work(i); });
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  loop_opened_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::run(int64_t num_items, int64_t grain, LoopBody body) {
  if (workers_.empty() || is_taken_.exchange(true, std::memory_order_acquire)) {
    return body.call(body.body, 0, num_items);
  }
  loop_ = {num_items, grain, body};
  next_item_.store(0, std::memory_order_relaxed);
  const uint32_t number = (state_.load(std::memory_order_relaxed) & kNumber) + kNextNumber;
  state_ = number | kOpen;
  wake_workers();
  run_items();
  state_ &= ~kOpen;
  wait_for_workers();
  const std::exception_ptr failure = std::exchange(failure_, nullptr);
  is_taken_.store(false, std::memory_order_release);
  if (failure) std::rethrow_exception(failure);
}

void WorkerPool::work(int index) {
  const Scope scope(this);
  this_thread_index = index;
  uint32_t last_number = 0;
  while (join_next(last_number)) {
    run_items();
    leave();
  }
}

bool WorkerPool::can_join(uint32_t last_number) const {
  const uint32_t state = state_;
  return (state & kOpen) != 0 && (state & kNumber) != last_number;
}

/// Waits for a loop that this worker was not in and counts it in. False: the pool ends. Numbers
/// come again after 65536 loops; who slept through exactly as many misses one loop.
bool WorkerPool::join_next(uint32_t& last_number) {
  for (;;) {
    if (!look_out([&] { return can_join(last_number) || is_stopping_; })) sleep(last_number);
    if (is_stopping_) return false;
    uint32_t state = state_.load(std::memory_order_relaxed);
    while ((state & kOpen) != 0 && (state & kNumber) != last_number) {
      if (state_.compare_exchange_weak(state, state + 1)) {
        last_number = state & kNumber;
        return true;
      }
    }
  }
}

void WorkerPool::sleep(uint32_t last_number) {
  std::unique_lock lock(mutex_);
  ++num_asleep_;  // either the caller sees this, or the condition sees its loop
  loop_opened_.wait(lock, [&] { return can_join(last_number) || is_stopping_; });
  --num_asleep_;
}

void WorkerPool::run_items() {
  const Loop& loop = loop_;
  for (;;) {
    const int64_t first = next_item_.fetch_add(loop.grain, std::memory_order_relaxed);
    if (first >= loop.num_items) return;
    try {
      loop.body.call(loop.body.body, first, std::min(first + loop.grain, loop.num_items));
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
  }
}

void WorkerPool::leave() {
  const uint32_t state = --state_;
  if ((state & (kWorkers | kOpen)) != 0 || !caller_sleeps_) return;
  const std::lock_guard lock(mutex_);
  workers_left_.notify_one();
}

void WorkerPool::wake_workers() {
  if (num_asleep_ == 0) return;
  { const std::lock_guard lock(mutex_); }  // who counted itself waits by now
  loop_opened_.notify_all();
}

void WorkerPool::wait_for_workers() {
  const auto all_left = [this] { return (state_ & kWorkers) == 0; };
  if (look_out(all_left)) return;
  std::unique_lock lock(mutex_);
  caller_sleeps_ = true;  // either the last worker sees this, or the condition sees it gone
  workers_left_.wait(lock, all_left);
  caller_sleeps_ = false;
}

}  // namespace quire::cpu
