#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

namespace quire::cpu {

/// Calls body(item) for every item in [0, num_items) on the calling thread's OpenMP team, handing
/// out `grain` items at a time. An exception must not leave an OpenMP region: one of those thrown
/// is rethrown at the end.
template <class Body>
void parallel_for(int64_t num_items, int64_t grain, const Body& body) {
#ifdef __SANITIZE_THREAD__  // It does not see how libgomp synchronises.
  grain = num_items;
#endif
  if (num_items <= grain) {
    for (int64_t item = 0; item < num_items; ++item) body(item);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t first = 0; first < num_items; first += grain) {
    try {
      const int64_t end = first + grain < num_items ? first + grain : num_items;
      for (int64_t item = first; item < end; ++item) body(item);
    } catch (...) {
#pragma omp critical(quire_cpu_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
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
