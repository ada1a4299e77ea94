#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "kernels/backend_registry.h"
#include "tests/bench/quire_bench/bench_model.h"
#include "tests/bench/quire_bench/bench_options.h"
#include "tests/bench/quire_bench/bench_report.h"
#include "tests/bench/quire_bench/measurement.h"
#include "tests/bench/quire_bench/serve_report.h"

namespace quire::bench {
namespace {

constexpr int kFailure = 2;

/// The peaks come from the cpu backend even for a reference run: plain loops are not a limit.
MachinePeaks peaks_for(const BenchOptions& options) {
  const bool is_reference = options.backend == "reference";
  const auto backend = make_backend(is_reference ? "cpu" : std::string_view(options.backend),
                                    {.num_threads = options.num_threads});
  return find_peaks(options.peaks, *backend, options.weights, options.num_threads);
}

int run(int argc, char** argv) {
  BenchOptions options = parse_command_line(argc, argv);
  if (options.mode == BenchMode::kServe) {
    const MachineFacts machine = read_machine_facts();
    std::fputs(serve_report(options, machine, run_serve(options.serve)).c_str(), stdout);
    return 0;
  }
  if (options.num_threads == 0) options.num_threads = omp_get_num_procs();
  Report report;
  report.machine = read_machine_facts();
  report.peaks = peaks_for(options);
  BenchModel model(options);
  report.options = options;
  report.config = model.config();
  report.moba = model.moba();
  report.model_name = options.model.empty() ? options.shape : options.model.filename().string();
  report.backend = model.backend().description();
  report.weight_types = model.weight_types();
  report.weight_bytes = model.weight_bytes();
  report.measurements = run_cases(model, options);
  // Again, and the better of the two: a neighbour's second of work must not lower the limit.
  const MachinePeaks peaks_after = peaks_for(options);
  report.peaks.gflops = std::max(report.peaks.gflops, peaks_after.gflops);
  report.peaks.gbytes_per_s = std::max(report.peaks.gbytes_per_s, peaks_after.gbytes_per_s);
  const std::string text = options.output == OutputFormat::kJson
                               ? report_json(report).dump(1) + "\n"
                               : report_table(report);
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace quire::bench

int main(int argc, char** argv) {
  try {
    return quire::bench::run(argc, argv);
  } catch (const quire::bench::CommandLineExit& exit) {
    std::FILE* out = exit.exit_code == 0 ? stdout : stderr;
    std::fprintf(out, "%s%s\n", exit.exit_code == 0 ? "" : "quire-bench: ", exit.text.c_str());
    return exit.exit_code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quire-bench: %s\n", error.what());
    return quire::bench::kFailure;
  }
}
