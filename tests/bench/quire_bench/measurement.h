#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bench/quire_bench/bench_model.h"

namespace quire::bench {

/// One line of the report: some repetitions of the same work.
struct Measurement {
  BenchMode mode = BenchMode::kPrefill;
  bool is_whole = false;    // prefill from token 0
  int32_t depth = 0;        // tokens of context before the measured ones; with is_whole, all tokens
  int32_t batch_size = 1;   // sequences per step
  int32_t num_tokens = 0;   // measured tokens of each sequence per repetition
  int32_t step_tokens = 1;  // of each sequence per step
  int64_t cache_bytes = 0;  // K, V and centroids of the case
  std::string skipped;      // why nothing was measured; empty: it was

  std::vector<double> seconds;             // of each repetition, in order
  std::vector<double> cpu_seconds;         // the same, of all threads together
  OpWork work;                             // of one repetition
  MeteredBackend::OpSeconds op_seconds{};  // mean of the repetitions

  int32_t first_pos() const { return is_whole ? 0 : depth; }
  int32_t end_pos() const { return first_pos() + num_tokens; }
  int64_t total_tokens() const { return int64_t{num_tokens} * batch_size; }
  int32_t num_steps() const { return (num_tokens + step_tokens - 1) / step_tokens; }
};

double median(std::vector<double> values);

/// The least time that the machine allows for one repetition's counted work.
struct Floor {
  double seconds = 0;
  bool is_memory_bound = false;
};
Floor floor_of(const OpWork& work, const MachinePeaks& peaks);

/// Every case that the options name, in order: makes the cache once, for the largest that fits into
/// memory, and says of the others that they did not fit. Progress goes to stderr.
std::vector<Measurement> run_cases(BenchModel& model, const BenchOptions& options);

/// The cases of one mode, still to be measured.
std::vector<Measurement> prefill_cases(const BenchOptions& options);
std::vector<Measurement> decode_cases(const BenchOptions& options);

}  // namespace quire::bench
