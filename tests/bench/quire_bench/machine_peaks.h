#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace quire::bench {

/// What the machine can do at most; a floor of time follows from it and from the counted work.
struct MachinePeaks {
  double gflops = 0;        // products of the weights, 2 * m * n * k per second / 1e9
  double gbytes_per_s = 0;  // memory read, 1e9 bytes
  std::string source;       // how they were found, for the report
};

/// Measures what is 0 in `given` with `num_threads` threads, in about a second: the best of some
/// products on `backend` with weights of `format` ([512, 2048] x [2048, 2048], larger ones where it
/// has memory for itself), and the best sweep over 512 MiB of its memory. The best rather than the
/// median: these are limits.
MachinePeaks find_peaks(const MachinePeaks& given, Backend& backend, WeightFormat format,
                        int num_threads);

/// Names what a figure was measured on.
struct MachineFacts {
  std::string cpu;                    // the system's name of it
  std::vector<int> allowed_cpus;      // the CPUs this process may run on
  std::vector<double> load_averages;  // 1, 5 and 15 minutes, at the start
  uint64_t available_memory_bytes = 0;
  std::string compiler;
};
MachineFacts read_machine_facts();

}  // namespace quire::bench
