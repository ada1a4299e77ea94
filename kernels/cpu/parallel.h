#pragma once

#include <cstdint>

#include "kernels/cpu/worker_pool.h"

namespace quire::cpu {

/// The loop on the calling thread's pool; on OpenMP's threads where it has none.
void run_loop(int64_t num_items, int64_t grain, LoopBody body);

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

/// The same for items that cost about the same: a thread gets long runs of neighbours at first and
/// shorter ones towards the end.
template <class Body>
void parallel_for_runs(int64_t num_items, const Body& body) {
#ifdef __SANITIZE_THREAD__
  const bool is_serial = true;
#else
  const bool is_serial = num_items <= 1;
#endif
  if (is_serial) {
    for (int64_t item = 0; item < num_items; ++item) body(item);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel for schedule(guided, 1)
  for (int64_t item = 0; item < num_items; ++item) {
    try {
      body(item);
    } catch (...) {
#pragma omp critical(quire_cpu_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace quire::cpu
