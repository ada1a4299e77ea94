#include "tests/bench/quire_bench/measurement.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace quire::bench {
namespace {

/// What stays free beside the cache: scratch of a step, page tables, the rest of the machine.
constexpr uint64_t kSpareBytes = uint64_t{256} << 20;

void run_steps(BenchModel& model, const Measurement& m) {
  for (int32_t pos = m.first_pos(); pos < m.end_pos(); pos += m.step_tokens) {
    const int32_t num_tokens = std::min(m.step_tokens, m.end_pos() - pos);
    // Decode's newest token is always the one that is computed; prefill's is the chunk's last.
    model.step(pos, num_tokens, m.mode == BenchMode::kDecode ? pos + 1 : m.end_pos());
  }
}

/// Of this process: what other programs took from it does not count.
double cpu_seconds_so_far() {
  std::timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void time_steps(BenchModel& model, Measurement& m) {
  const double cpu_begin = cpu_seconds_so_far();
  const auto begin = std::chrono::steady_clock::now();
  run_steps(model, m);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  m.seconds.push_back(took.count());
  m.cpu_seconds.push_back(cpu_seconds_so_far() - cpu_begin);
}

void measure(BenchModel& model, int num_repetitions, Measurement& m) {
  MeteredBackend& backend = model.backend();
  model.make_sequences(m.batch_size, m.end_pos());
  backend.start_counting();
  // A whole document may take minutes on a CPU: its only run is counted while it is timed. On a
  // device counting costs more than the run, since what the gate selected has to come to the host.
  const bool counts_apart = !m.is_whole || backend.device_memory().exists();
  if (counts_apart) {
    run_steps(model, m);
    m.work = backend.stop_counting();
  }
  backend.reset_op_seconds();
  for (int repetition = 0; repetition < num_repetitions; ++repetition) {
    time_steps(model, m);
    if (!counts_apart && repetition == 0) m.work = backend.stop_counting();
    std::fprintf(stderr, "%s depth %d batch %d: %.4f s\n",
                 m.mode == BenchMode::kDecode ? "decode" : "prefill", m.depth, m.batch_size,
                 m.seconds.back());
  }
  m.op_seconds = backend.op_seconds();
  for (double& seconds : m.op_seconds) seconds /= num_repetitions;
}

}  // namespace

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  if (values.empty()) return 0;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Floor floor_of(const OpWork& work, const MachinePeaks& peaks) {
  const double compute = work.flops() / (peaks.gflops * 1e9);
  const double memory = work.bytes() / (peaks.gbytes_per_s * 1e9);
  return {std::max(compute, memory), memory > compute};
}

std::vector<Measurement> prefill_cases(const BenchOptions& options) {
  std::vector<Measurement> cases;
  for (const int32_t depth : options.depths) {
    Measurement m;
    m.mode = BenchMode::kPrefill;
    m.is_whole = options.is_whole;
    m.depth = depth;
    m.num_tokens = options.is_whole ? depth : options.num_tokens;
    m.step_tokens = std::min(options.step_tokens, m.num_tokens);
    cases.push_back(m);
  }
  return cases;
}

std::vector<Measurement> decode_cases(const BenchOptions& options) {
  std::vector<Measurement> cases;
  for (const int32_t batch_size : options.batch_sizes) {
    for (const int32_t depth : options.depths) {
      Measurement m;
      m.mode = BenchMode::kDecode;
      m.depth = depth;
      m.batch_size = batch_size;
      m.num_tokens = options.num_steps;
      cases.push_back(m);
    }
  }
  return cases;
}

std::vector<Measurement> run_cases(BenchModel& model, const BenchOptions& options) {
  std::vector<Measurement> cases =
      options.mode == BenchMode::kDecode ? decode_cases(options) : prefill_cases(options);
  const uint64_t available = model.available_cache_bytes();
  const uint64_t room = available == 0 ? UINT64_MAX : available - std::min(available, kSpareBytes);
  int64_t cache_bytes = 0;
  StepLimits limits{.max_top_k = model.moba().top_k};
  for (Measurement& m : cases) {
    m.cache_bytes = model.cache_bytes(m.batch_size, m.end_pos());
    if (static_cast<uint64_t>(m.cache_bytes) > room) {
      m.skipped = "its cache needs " + std::to_string(m.cache_bytes >> 20) + " MiB, " +
                  std::to_string(room >> 20) + " MiB are available";
      continue;
    }
    cache_bytes = std::max(cache_bytes, m.cache_bytes);
    limits.max_tokens = std::max(limits.max_tokens, m.batch_size * m.step_tokens);
    limits.max_logit_rows = std::max(limits.max_logit_rows, m.batch_size);
  }
  if (cache_bytes == 0) return cases;
  model.make_cache(cache_bytes, limits);
  for (Measurement& m : cases) {
    if (m.skipped.empty()) measure(model, options.num_repetitions, m);
  }
  return cases;
}

}  // namespace quire::bench
