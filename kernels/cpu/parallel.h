#pragma once

#include <cstdint>

#include "kernels/cpu/worker_pool.h"

namespace quire::cpu {

/// The loop on the calling thread's pool; on OpenMP's threads where it has none.
void run_loop(int64_t num_items, int64_t grain, LoopBody body);

/// The threads that a loop of the calling thread may have, and which of them, from 0 on, runs this
/// item: for what a thread keeps to itself during a loop.
int num_loop_threads();
int loop_thread();

/// Calls body(item) for every item in [0, num_items) on the threads of the calling thread's
/// backend, handing out `grain` items at a time: what is worth the microsecond that handing over
/// costs. Of the exceptions thrown, one is rethrown at the end.
template <class Body>
void parallel_for(int64_t num_items, int64_t grain, const Body& body) {
  const auto call = [](const void* self, int64_t first, int64_t end) {
    const Body& each = *static_cast<const Body*>(self);
    for (int64_t item = first; item < end; ++item) each(item);
  };
  if (num_items <= grain) return call(&body, 0, num_items);
  run_loop(num_items, grain, {call, &body});
}

/// The same for many items that cost about the same: a thread gets runs of neighbours.
template <class Body>
void parallel_for_runs(int64_t num_items, const Body& body) {
  constexpr int64_t kNumRuns = 32;
  parallel_for(num_items, num_items / kNumRuns + 1, body);
}

}  // namespace quire::cpu
