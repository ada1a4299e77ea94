#include "kernels/cpu/worker_pool.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace quire::cpu {
namespace {

/// How often each item was run by a parallel_for on `pool`.
std::vector<int> count_items(WorkerPool& pool, int64_t num_items, int64_t grain) {
  const WorkerPool::Scope scope(&pool);
  std::vector<std::atomic<int>> counts(static_cast<size_t>(num_items));
  parallel_for(num_items, grain, [&](int64_t item) { ++counts[static_cast<size_t>(item)]; });
  return {counts.begin(), counts.end()};
}

TEST_CASE("worker pool: every item runs once, whatever the grain and the number of threads") {
  for (const int num_threads : {1, 2, 5}) {
    WorkerPool pool(num_threads);
    for (const int64_t num_items : {0, 1, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64, 2000}) {
        CAPTURE(num_threads, num_items, grain);
        CHECK(count_items(pool, num_items, grain) ==
              std::vector<int>(static_cast<size_t>(num_items), 1));
      }
    }
  }
}

TEST_CASE("worker pool: what a loop wrote is there when it returns, loop after loop") {
  WorkerPool pool(4);
  const WorkerPool::Scope scope(&pool);
  std::vector<int64_t> values(97, 0);
  constexpr int kLoops = 70000;  // more than the loops' numbers go round
  for (int loop = 0; loop < kLoops; ++loop) {
    parallel_for(97, 8, [&](int64_t item) { ++values[static_cast<size_t>(item)]; });
  }
  CHECK(values == std::vector<int64_t>(97, kLoops));
}

TEST_CASE("worker pool: items run on several threads at once") {
  WorkerPool pool(2);
  const WorkerPool::Scope scope(&pool);
  std::mutex mutex;
  std::condition_variable arrived;
  int num_here = 0;
  // Each waits for the other: one thread alone would never return.
  parallel_for(2, 1, [&](int64_t) {
    std::unique_lock lock(mutex);
    ++num_here;
    arrived.notify_all();
    arrived.wait(lock, [&] { return num_here == 2; });
  });
  CHECK(num_here == 2);
}

TEST_CASE("worker pool: an exception reaches the caller, the other items run, the pool lives on") {
  WorkerPool pool(3);
  const WorkerPool::Scope scope(&pool);
  std::atomic<int> num_run{0};
  const auto loop = [&] {
    parallel_for(50, 1, [&](int64_t item) {
      ++num_run;
      if (item == 20) throw std::runtime_error("item 20");
    });
  };
  CHECK_THROWS_WITH(loop(), "item 20");
  CHECK(num_run == 50);
  CHECK(count_items(pool, 50, 1) == std::vector<int>(50, 1));
}

TEST_CASE("worker pool: a loop inside a loop runs") {
  WorkerPool pool(3);
  const WorkerPool::Scope scope(&pool);
  std::atomic<int> num_run{0};
  parallel_for(8, 1, [&](int64_t) { parallel_for(16, 1, [&](int64_t) { ++num_run; }); });
  CHECK(num_run == 8 * 16);
}

TEST_CASE("worker pool: the threads of a loop have numbers of their own") {
  constexpr int kThreads = 4;
  WorkerPool pool(kThreads);
  const WorkerPool::Scope scope(&pool);
  std::vector<std::atomic<int>> here(kThreads);
  std::atomic<int> num_shared{0};
  for (int loop = 0; loop < 500; ++loop) {
    parallel_for(64, 1, [&](int64_t) {
      std::atomic<int>& mine = here.at(static_cast<size_t>(loop_thread()));
      if (++mine != 1) ++num_shared;
      --mine;
    });
  }
  CHECK(num_shared == 0);
}

TEST_CASE("worker pool: several threads may run loops on one pool") {
  WorkerPool pool(3);
  std::vector<std::vector<int>> counts(4);
  std::vector<std::thread> callers;
  for (std::vector<int>& own : counts) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) own = count_items(pool, 100, 1);
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const std::vector<int>& own : counts) CHECK(own == std::vector<int>(100, 1));
}

}  // namespace
}  // namespace quire::cpu
