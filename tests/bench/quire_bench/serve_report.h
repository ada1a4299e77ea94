#pragma once

#include <string>
#include <vector>

#include "tests/bench/quire_bench/bench_options.h"
#include "tests/bench/quire_bench/serve_bench.h"

namespace quire::bench {

/// The value below which a share of `values` lies (nearest rank); 0 of none.
double percentile(std::vector<double> values, double share);

/// A Markdown table or JSON, as the options ask for.
std::string serve_report(const BenchOptions& options, const MachineFacts& machine,
                         const std::vector<ServeMeasurement>& measurements);

}  // namespace quire::bench
