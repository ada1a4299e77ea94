#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace quire::cpu {

/// The body of a loop, called for items [first, end) on any thread.
struct LoopBody {
  void (*call)(const void* body, int64_t first, int64_t end);
  const void* body;
};

/// Threads that share the loops of one backend. A step has hundreds of loops of microseconds, so a
/// worker that has run out of work looks out for the next loop for a while before it sleeps; and
/// nobody waits for a worker that has not come: a loop ends when its items are done and those who
/// took part have left. A worker without a CPU (busy neighbours, the server's own other threads)
/// thus costs its share of the work, not everybody's time.
class WorkerPool {
 public:
  /// num_threads - 1 workers; the caller of run is the last thread.
  explicit WorkerPool(int num_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Calls the body for all of [0, num_items), `grain` items at a time, and returns when all are
  /// done; an exception thrown by one of the calls is rethrown then. Any thread; a second caller,
  /// and a loop inside a loop, run alone on their thread.
  void run(int64_t num_items, int64_t grain, LoopBody body);

  /// The pool for loops of the calling thread; null: none.
  static WorkerPool* of_this_thread();
  /// Of a loop that is run, each thread has another: 0 its caller, the workers 1 to num_threads
  /// - 1.
  static int index_of_this_thread();
  /// Makes `pool` that pool, and when it goes, the one before.
  class Scope {
   public:
    explicit Scope(WorkerPool* pool);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    WorkerPool* before_;
  };

 private:
  struct Loop {
    int64_t num_items = 0, grain = 1;
    LoopBody body{};
  };

  void work(int index);
  bool join_next(uint32_t& last_number);
  bool can_join(uint32_t last_number) const;
  void sleep(uint32_t last_number);
  void run_items();
  void leave();
  void wake_workers();
  void wait_for_workers();

  // The loop under way: written while nobody is in it, read by who has joined.
  Loop loop_;
  std::atomic<bool> is_taken_{false};  // by a caller of run

  // What all threads look at, each on a cache line of its own.
  alignas(64) std::atomic<uint32_t> state_{0};  // number of the loop, is it open, workers in it
  alignas(64) std::atomic<int64_t> next_item_{0};
  alignas(64) std::atomic<int> num_asleep_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> is_stopping_{false};

  std::mutex mutex_;
  std::condition_variable loop_opened_, workers_left_;
  std::exception_ptr failure_;  // under mutex_
  std::vector<std::thread> workers_;
};

}  // namespace quire::cpu
