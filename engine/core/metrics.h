#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace quire {

// Metrics are atomics: the engine writes them, a scrape reads them, nobody waits for anybody. Names
// and help texts live with the exporter (server/admin); this side knows values only.

class Counter {
 public:
  void add(uint64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(int64_t amount) { value_.fetch_add(amount, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

/// Counts per upper bound, not cumulative; the last bucket is +inf. A reader may see a sum and
/// counts that are one observation apart.
class Histogram {
 public:
  Histogram(std::initializer_list<double> upper_bounds)
      : upper_bounds_(upper_bounds), buckets_(upper_bounds.size() + 1) {}

  void observe(double value) {
    size_t bucket = 0;
    while (bucket < upper_bounds_.size() && value > upper_bounds_[bucket]) ++bucket;
    buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  const std::vector<double>& upper_bounds() const { return upper_bounds_; }
  uint64_t bucket_count(size_t bucket) const {
    return buckets_[bucket].load(std::memory_order_relaxed);
  }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> upper_bounds_;
  std::vector<std::atomic<uint64_t>> buckets_;
  std::atomic<double> sum_{0.0};
};

/// Written by the engine thread (and by the queue gate), read by /metrics, /livez and admission.
struct EngineMetrics {
  Gauge sequences_waiting;
  Gauge sequences_running;
  Gauge blocks_total;
  Gauge blocks_free;            // never used or evicted
  Gauge blocks_cached;          // sealed, referenced by no sequence, still findable
  Gauge blocks_in_use;          // referenced by at least one sequence
  Counter prompt_tokens;        // prompt tokens of admitted sequences
  Counter prefix_query_tokens;  // prompt tokens looked up in the prefix cache
  Counter prefix_hit_tokens;    // of those, found
  Counter prefill_tokens;       // tokens computed in prefill chunks (recomputation included)
  Counter generation_tokens;    // tokens sampled
  Counter preemptions;
  Counter blocks_sealed;
  Counter blocks_evicted;
  Counter blocks_attended;  // summed over tokens and layers; see Usage
  Counter blocks_available;
  Counter steps;
  Counter step_failures;
  Counter finished_stop;
  Counter finished_length;
  Counter finished_cancelled;
  Counter finished_error;
  Gauge last_step_ms;  // Clock time of the last finished step or idle turn, in ms
  Histogram step_seconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  Histogram queue_seconds{0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800};
  Histogram prefill_seconds{0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800};
  Histogram ttft_seconds{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                         1,     2.5,   5,    10,    30,   60,  300,  1800};
  Histogram inter_token_seconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5};
  Histogram e2e_seconds{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200};
};

}  // namespace quire
