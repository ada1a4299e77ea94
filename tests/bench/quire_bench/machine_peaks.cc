#include "tests/bench/quire_bench/machine_peaks.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <utility>

#include "server/machine_memory.h"
#include "tests/bench/quire_bench/random_table.h"

namespace quire::bench {
namespace {

constexpr double kLoopSeconds = 0.4;
constexpr int kMinRounds = 5;
constexpr int64_t kRows = 512, kWidth = 2048;
// Of a device of its own: products that fill it, and several before anybody waits for it.
constexpr int64_t kDeviceRows = 8192, kDeviceWidth = 4096;
constexpr int kProductsAtOnce = 8;
constexpr int64_t kSweepBytes = int64_t{512} << 20;

/// The shortest of several runs of `action`, in seconds.
template <class Action>
double best_seconds(const Action& action) {
  action();
  double best = 0, total = 0;
  for (int round = 0; round < kMinRounds || total < kLoopSeconds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    action();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = round == 0 ? took.count() : std::min(best, took.count());
    total += took.count();
  }
  return best;
}

/// [rows, width] times [width, width].
struct ProductSize {
  int64_t rows, width;
  int repetitions;  // between two waits
};

double measure_gflops(Backend& backend, WeightFormat format, const ProductSize& size) {
  const auto [rows, width, repetitions] = size;
  RandomTable table(1);
  std::vector<BFloat16> values;
  table.hand_out(std::max(rows, width) * width, [&](std::span<const BFloat16> piece) {
    values.insert(values.end(), piece.begin(), piece.end());
  });
  const ConstTensorView host = make_view(std::as_const(values).data(), {width, width});
  const auto weight = backend.pack_weight({&host, 1}, format);
  const auto num_elements = static_cast<size_t>(rows * width);
  const auto input = backend.allocate(num_elements * sizeof(BFloat16));
  const auto output = backend.allocate(num_elements * sizeof(float));
  backend.upload(std::as_bytes(std::span(values).first(num_elements)), input->data());
  const MatmulParams params{.a = make_view(static_cast<BFloat16*>(input->data()), {rows, width}),
                            .weight = weight.get(),
                            .out = make_view(static_cast<float*>(output->data()), {rows, width})};
  const double seconds = best_seconds([&] {
    for (int i = 0; i < repetitions; ++i) backend.matmul(params);
    backend.synchronize();
  });
  return 2.0 * repetitions * static_cast<double>(rows * width) * static_cast<double>(width) /
         seconds / 1e9;
}

/// Memory that only the backend can read, by the op that does least with what it reads.
double measure_device_gbytes_per_s(Backend& backend) {
  constexpr int64_t kSweepRows = kSweepBytes / (2 * kWidth * int64_t{sizeof(float)});
  const auto input = backend.allocate(kSweepBytes);
  const auto output = backend.allocate(kSweepRows * kWidth * sizeof(BFloat16));
  const SiluMulParams params{
      .gate_up = make_view(static_cast<const float*>(input->data()), {kSweepRows, 2 * kWidth}),
      .out = make_view(static_cast<BFloat16*>(output->data()), {kSweepRows, kWidth})};
  const double seconds = best_seconds([&] {
    backend.silu_mul(params);
    backend.synchronize();
  });
  return static_cast<double>(input->size_bytes() + output->size_bytes()) / seconds / 1e9;
}

double measure_gbytes_per_s(Backend& backend, int num_threads) {
  constexpr int64_t kNumWords = kSweepBytes / int64_t{sizeof(uint64_t)};
  const auto buffer = backend.allocate(kSweepBytes);
  auto* words = static_cast<uint64_t*>(buffer->data());
#pragma omp parallel for num_threads(num_threads) schedule(static)
  for (int64_t i = 0; i < kNumWords; ++i) words[i] = static_cast<uint64_t>(i);
  volatile uint64_t sink = 0;
  const double seconds = best_seconds([&] {
    uint64_t sum = 0;
#pragma omp parallel for num_threads(num_threads) schedule(static) reduction(^ : sum)
    for (int64_t i = 0; i < kNumWords; i += 8) {
      for (int64_t lane = 0; lane < 8; ++lane) sum ^= words[i + lane];
    }
    sink = sum;
  });
  return static_cast<double>(kSweepBytes) / seconds / 1e9;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

MachinePeaks find_peaks(const MachinePeaks& given, Backend& backend, WeightFormat format,
                        int num_threads) {
  MachinePeaks peaks = given;
  const bool has_own_memory = backend.device_memory().exists();
  if (given.gflops > 0) {
    peaks.source = "compute: given";
  } else {
    const ProductSize size = has_own_memory
                                 ? ProductSize{kDeviceRows, kDeviceWidth, kProductsAtOnce}
                                 : ProductSize{kRows, kWidth, 1};
    peaks.gflops = measure_gflops(backend, format, size);
    const std::string width = std::to_string(size.width);
    peaks.source = std::string("compute: best ") +
                   (format == WeightFormat::kInt8 ? "int8" : "bf16") + " product of " +
                   std::to_string(size.rows) + " x " + width + " x " + width + " on backend " +
                   std::string(backend.name());
  }
  if (given.gbytes_per_s > 0) {
    peaks.source += "; memory: given";
  } else {
    peaks.gbytes_per_s = has_own_memory ? measure_device_gbytes_per_s(backend)
                                        : measure_gbytes_per_s(backend, num_threads);
    peaks.source +=
        has_own_memory ? "; memory: best silu_mul of 512 MiB" : "; memory: best read of 512 MiB";
  }
  return peaks;
}

MachineFacts read_machine_facts() {
  MachineFacts facts;
  facts.cpu = cpu_name();
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) facts.allowed_cpus.push_back(cpu);
    }
  }
  facts.load_averages.resize(3);
  if (getloadavg(facts.load_averages.data(), 3) != 3) facts.load_averages.clear();
  facts.available_memory_bytes = available_memory_bytes();
  facts.compiler = __VERSION__;
  return facts;
}

}  // namespace quire::bench
