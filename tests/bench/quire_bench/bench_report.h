#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/quire_bench/measurement.h"

namespace quire::bench {

/// Everything a report says, gathered once so that the table and the JSON cannot differ.
struct Report {
  BenchOptions options;
  MachineFacts machine;
  MachinePeaks peaks;
  ModelConfig config;
  MobaConfig moba;
  std::string model_name;
  std::string backend;       // its own description: instruction set, threads
  std::string weight_types;  // Model::weight_types
  int64_t weight_bytes = 0;
  std::vector<Measurement> measurements;
};

nlohmann::ordered_json report_json(const Report& report);

/// A Markdown table with what it was measured on above it and the ops' shares of time below.
std::string report_table(const Report& report);

}  // namespace quire::bench
