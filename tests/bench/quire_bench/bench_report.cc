#include "tests/bench/quire_bench/bench_report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace quire::bench {
namespace {

using Json = nlohmann::ordered_json;

std::string_view mode_name(const Measurement& m) {
  if (m.mode == BenchMode::kDecode) return "decode";
  return m.is_whole ? "prefill whole" : "prefill";
}

std::string_view attention_name(const Report& report) {
  return report.options.attention == AttentionMode::kFull ? "full" : "moba";
}

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof(text), pattern, arguments);
  va_end(arguments);
  return text;
}

/// "1293", "22.19" or "0.01234": four digits that count.
std::string number(double value) { return format(value >= 1000 ? "%.0f" : "%.4g", value); }

Json spread(const std::vector<double>& values) {
  return {{"median", median(values)},
          {"min", *std::ranges::min_element(values)},
          {"max", *std::ranges::max_element(values)},
          {"all", values}};
}

Json machine_json(const Report& report) {
  return {{"cpu", report.machine.cpu},
          {"allowed_cpus", report.machine.allowed_cpus},
          {"load_averages", report.machine.load_averages},
          {"available_memory_bytes", report.machine.available_memory_bytes},
          {"backend", report.backend},
          {"compiler", report.machine.compiler}};
}

Json model_json(const Report& report) {
  const ModelConfig& c = report.config;
  return {{"name", report.model_name},
          {"layers", c.num_layers},
          {"hidden_size", c.hidden_size},
          {"heads", c.num_heads},
          {"kv_heads", c.num_kv_heads},
          {"head_dim", c.head_dim},
          {"intermediate_size", c.intermediate_size},
          {"vocab_size", c.vocab_size},
          {"weights", report.weight_types},
          {"weight_bytes", report.weight_bytes},
          {"attention", attention_name(report)},
          {"kv_dtype", dtype_name(report.options.kv_dtype)},
          {"block_size", report.moba.block_size},
          {"top_k", report.moba.top_k},
          {"schedule", schedule_text(report.moba.schedule)},
          {"full_attention_layers", report.moba.full_attention_layers}};
}

Json work_json(const OpWork& work) {
  return {{"linear_flops", work.linear_flops},
          {"gate_flops", work.gate_flops},
          {"attention_flops", work.attention_flops},
          {"flops", work.flops()},
          {"weight_bytes", work.weight_bytes},
          {"centroid_bytes", work.centroid_bytes},
          {"kv_bytes", work.kv_bytes},
          {"bytes", work.bytes()}};
}

Json measurement_json(const Measurement& m, const MachinePeaks& peaks) {
  Json json = {{"mode", mode_name(m)},         {"depth", m.depth},
               {"batch_size", m.batch_size},   {"tokens", m.num_tokens},
               {"step_tokens", m.step_tokens}, {"steps", m.num_steps()},
               {"cache_bytes", m.cache_bytes}};
  if (!m.skipped.empty()) {
    json["skipped"] = m.skipped;
    return json;
  }
  const double seconds = median(m.seconds);
  const Floor floor = floor_of(m.work, peaks);
  std::vector<double> rates;
  for (const double s : m.seconds) rates.push_back(static_cast<double>(m.total_tokens()) / s);
  json["seconds"] = spread(m.seconds);
  json["cpu_seconds"] = spread(m.cpu_seconds);
  json["tokens_per_second"] = spread(rates);
  json["work"] = work_json(m.work);
  json["gflops_per_second"] = m.work.flops() / seconds / 1e9;
  json["gbytes_per_second"] = m.work.bytes() / seconds / 1e9;
  json["floor"] = {{"seconds", floor.seconds},
                   {"bound", floor.is_memory_bound ? "memory" : "compute"},
                   {"share", floor.seconds / seconds}};
  Json ops = Json::object();
  for (size_t op = 0; op < kNumOps; ++op) {
    ops[std::string(op_name(static_cast<OpKind>(op)))] = m.op_seconds[op];
  }
  json["op_seconds"] = ops;
  return json;
}

std::string heading(const Report& report) {
  const ModelConfig& c = report.config;
  std::string cpus;
  for (const int cpu : report.machine.allowed_cpus) {
    cpus += (cpus.empty() ? "" : ",") + std::to_string(cpu);
  }
  std::string text =
      format("quire-bench %s (%s)\n%s, CPUs %s, load %.1f\nbackend %s: %s\n", QUIRE_VERSION,
             QUIRE_COMMIT, report.machine.cpu.c_str(), cpus.c_str(),
             report.machine.load_averages.empty() ? 0.0 : report.machine.load_averages.front(),
             report.options.backend.c_str(), report.backend.c_str());
  text += format("peaks: %.0f GFLOP/s, %.1f GB/s (%s)\n", report.peaks.gflops,
                 report.peaks.gbytes_per_s, report.peaks.source.c_str());
  text += format(
      "model %s: %d layers, dim %d, %d/%d heads of %d, ffn %d, vocabulary %d, weights "
      "%s, %.1f MB\n",
      report.model_name.c_str(), c.num_layers, c.hidden_size, c.num_heads, c.num_kv_heads,
      c.head_dim, c.intermediate_size, c.vocab_size, report.weight_types.c_str(),
      static_cast<double>(report.weight_bytes) / 1e6);
  text += format("attention %s, block size %d, top-k %d, schedule %s, %s cache; medians of %d\n\n",
                 std::string(attention_name(report)).c_str(), report.moba.block_size,
                 report.moba.top_k, schedule_text(report.moba.schedule).c_str(),
                 std::string(dtype_name(report.options.kv_dtype)).c_str(),
                 report.options.num_repetitions);
  return text;
}

std::string table_line(const Measurement& m, const MachinePeaks& peaks) {
  const std::string name(mode_name(m));
  if (!m.skipped.empty()) {
    return format("| %s | %d | %d | left out: %s |\n", name.c_str(), m.depth, m.batch_size,
                  m.skipped.c_str());
  }
  const double seconds = median(m.seconds);
  const Floor floor = floor_of(m.work, peaks);
  const auto [least, most] = std::ranges::minmax(m.seconds);
  return format(
      "| %s | %d | %d | %d | %s | %s-%s | %s | %s | %s | %.3g | %.3g | %s | %.1f%% of %s |\n",
      name.c_str(), m.depth, m.batch_size, m.num_tokens, number(seconds).c_str(),
      number(least).c_str(), number(most).c_str(),
      number(static_cast<double>(m.total_tokens()) / seconds).c_str(),
      number(m.work.flops() / seconds / 1e9).c_str(),
      number(m.work.bytes() / seconds / 1e9).c_str(), m.work.flops() / 1e9, m.work.bytes() / 1e9,
      number(floor.seconds).c_str(), 100 * floor.seconds / seconds,
      floor.is_memory_bound ? "memory" : "compute");
}

/// "prefill, depth 4096: matmul 61%, moba_attention 20%, …", the largest first.
std::string ops_line(const Measurement& m) {
  std::vector<std::pair<double, OpKind>> ops;
  for (size_t op = 0; op < kNumOps; ++op) {
    ops.emplace_back(m.op_seconds[op], static_cast<OpKind>(op));
  }
  std::ranges::sort(ops, std::greater<>());
  double total = 0;
  for (const double seconds : m.seconds) total += seconds / static_cast<double>(m.seconds.size());
  std::string text =
      format("%s, depth %d, batch %d:", std::string(mode_name(m)).c_str(), m.depth, m.batch_size);
  double rest = total;
  for (const auto& [seconds, op] : ops) {
    if (seconds < 0.005 * total) break;
    text += format(" %s %.1f%%", std::string(op_name(op)).c_str(), 100 * seconds / total);
    rest -= seconds;
  }
  return text + format(" rest %.1f%%\n", 100 * rest / total);
}

}  // namespace

nlohmann::ordered_json report_json(const Report& report) {
  Json json = {{"tool", "quire-bench"},
               {"version", QUIRE_VERSION},
               {"commit", QUIRE_COMMIT},
               {"machine", machine_json(report)},
               {"threads", report.options.num_threads},
               {"backend", report.options.backend},
               {"decode_graphs", !report.options.no_decode_graphs},
               {"op_times", report.options.op_times},
               {"seed", report.options.seed},
               {"model", model_json(report)},
               {"peaks",
                {{"gflops", report.peaks.gflops},
                 {"gbytes_per_second", report.peaks.gbytes_per_s},
                 {"source", report.peaks.source}}}};
  json["results"] = Json::array();
  for (const Measurement& m : report.measurements) {
    json["results"].push_back(measurement_json(m, report.peaks));
  }
  return json;
}

std::string report_table(const Report& report) {
  std::string text = heading(report);
  text +=
      "| mode | depth | batch | tokens | seconds | min-max | tok/s | GFLOP/s | GB/s | GFLOP | GB | "
      "floor s | share of floor |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const Measurement& m : report.measurements) text += table_line(m, report.peaks);
  text += '\n';
  for (const Measurement& m : report.measurements) {
    if (m.skipped.empty()) text += ops_line(m);
  }
  return text;
}

}  // namespace quire::bench
