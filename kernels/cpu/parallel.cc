#include "kernels/cpu/parallel.h"

#include <omp.h>

#include <algorithm>
#include <exception>

namespace quire::cpu {
namespace {

void run_on_openmp(int64_t num_items, int64_t grain, LoopBody body) {
#ifdef __SANITIZE_THREAD__  // It does not see how libgomp synchronises.
  grain = num_items;
#endif
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t first = 0; first < num_items; first += grain) {
    try {
      body.call(body.body, first, std::min(first + grain, num_items));
    } catch (...) {
#pragma omp critical(quire_cpu_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

void run_loop(int64_t num_items, int64_t grain, LoopBody body) {
  if (WorkerPool* pool = WorkerPool::of_this_thread()) return pool->run(num_items, grain, body);
  run_on_openmp(num_items, grain, body);
}

// The backend has told OpenMP how many threads it has, pool or not.
int num_loop_threads() { return omp_get_max_threads(); }

int loop_thread() {
  return WorkerPool::of_this_thread() != nullptr ? WorkerPool::index_of_this_thread()
                                                 : omp_get_thread_num();
}

}  // namespace quire::cpu
