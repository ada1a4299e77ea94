#include "tests/bench/quire_bench/serve_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace quire::bench {
namespace {

using Json = nlohmann::ordered_json;

Json distribution(const std::vector<double>& seconds) {
  return {{"p50", percentile(seconds, 0.5)},
          {"p95", percentile(seconds, 0.95)},
          {"p99", percentile(seconds, 0.99)},
          {"max", percentile(seconds, 1.0)}};
}

Json measurement_json(const ServeMeasurement& m) {
  return {
      {"streams", m.num_streams},
      {"requests", m.num_requests},
      {"failed", m.num_failed},
      {"failure", m.failure},
      {"wall_seconds", m.wall_seconds},
      {"prompt_tokens", m.prompt_tokens},
      {"completion_tokens", m.completion_tokens},
      {"completion_tokens_per_second", static_cast<double>(m.completion_tokens) / m.wall_seconds},
      {"first_token_seconds", distribution(m.first_token_seconds)},
      {"inter_token_seconds", distribution(m.gap_seconds)},
      {"background_seconds", m.background_seconds}};
}

std::string table_line(const ServeMeasurement& m) {
  char line[512];
  std::snprintf(
      line, sizeof(line), "| %d | %lld | %lld | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f |\n",
      m.num_streams, static_cast<long long>(m.num_requests), static_cast<long long>(m.num_failed),
      static_cast<double>(m.completion_tokens) / m.wall_seconds,
      static_cast<double>(m.prompt_tokens + m.completion_tokens) / m.wall_seconds,
      1e3 * percentile(m.first_token_seconds, 0.5), 1e3 * percentile(m.first_token_seconds, 0.95),
      1e3 * percentile(m.gap_seconds, 0.5), 1e3 * percentile(m.gap_seconds, 0.99),
      1e3 * percentile(m.gap_seconds, 1.0));
  if (m.background_seconds > 0) {
    const size_t end = std::strlen(line);
    std::snprintf(line + end, sizeof(line) - end, "background prompt read in %.2f s\n",
                  m.background_seconds);
  }
  return m.failure.empty() ? line : line + ("first failure: " + m.failure + "\n");
}

}  // namespace

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::max<size_t>(rank, 1) - 1];
}

std::string serve_report(const BenchOptions& options, const MachineFacts& machine,
                         const std::vector<ServeMeasurement>& measurements) {
  if (options.output == OutputFormat::kJson) {
    Json json = {{"tool", "quire-bench"},
                 {"version", QUIRE_VERSION},
                 {"commit", QUIRE_COMMIT},
                 {"mode", "serve"},
                 {"machine", {{"cpu", machine.cpu}, {"load_averages", machine.load_averages}}},
                 {"prompt_words", options.serve.prompt_words},
                 {"max_tokens", options.serve.max_tokens},
                 {"requests_per_stream", options.serve.requests_per_stream},
                 {"background_prefill", options.serve.background_prefill}};
    json["results"] = Json::array();
    for (const ServeMeasurement& m : measurements) json["results"].push_back(measurement_json(m));
    return json.dump(1) + "\n";
  }
  std::string text = "quire-bench " QUIRE_VERSION " (" QUIRE_COMMIT ")\n" + machine.cpu + "\n\n";
  text +=
      "| streams | requests | failed | gen tok/s | all tok/s | TTFT p50 ms | p95 | ITL p50 ms | "
      "p99 | max |\n|---|---|---|---|---|---|---|---|---|---|\n";
  for (const ServeMeasurement& m : measurements) text += table_line(m);
  return text;
}

}  // namespace quire::bench
