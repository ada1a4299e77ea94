#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "models/model_config.h"
#include "tests/bench/quire_bench/machine_peaks.h"
#include "tests/bench/quire_bench/serve_bench.h"

namespace quire::bench {

enum class BenchMode : uint8_t { kPrefill, kDecode, kServe };
enum class OutputFormat : uint8_t { kTable, kJson };

struct BenchOptions {
  BenchMode mode = BenchMode::kPrefill;
  std::string shape = "bundled";
  std::filesystem::path model;  // empty: the shape decides
  WeightFormat weights = WeightFormat::kOriginal;
  AttentionMode attention = AttentionMode::kMoba;
  int32_t block_size = 0;  // 0: the model's
  int32_t top_k = 0;       // 0: the model's
  DType kv_dtype = DType::kBF16;
  std::string schedule;  // empty: the model's
  std::string backend = "cpu";
  int num_threads = 0;  // 0: as many CPUs as the process may use
  bool no_decode_graphs = false;
  bool op_times = false;  // every op is waited for
  std::vector<int32_t> depths = {0};
  int num_repetitions = 5;
  uint32_t seed = 1;
  OutputFormat output = OutputFormat::kTable;
  MachinePeaks peaks;  // 0: measured

  int32_t num_tokens = 512;   // prefill: the chunk that is measured
  int32_t step_tokens = 512;  // prefill: tokens of one step
  bool is_whole = false;      // prefill: from token 0 to the depth

  std::vector<int32_t> batch_sizes = {1};  // decode
  int32_t num_steps = 16;                  // decode: tokens of each sequence per repetition

  ServeOptions serve;  // all that serve needs, but for `output`
};

/// A complete command line needs no run: the text to print, and the exit code.
struct CommandLineExit {
  int exit_code = 0;
  std::string text;
};

/// Throws CommandLineExit for --help, --version and errors.
BenchOptions parse_command_line(int argc, const char* const* argv);

}  // namespace quire::bench
