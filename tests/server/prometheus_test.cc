#include "server/admin/prometheus.h"

#include <catch2/catch.hpp>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace quire {
namespace {

using Catch::Matchers::Contains;

struct Sources {
  EngineMetrics engine;
  HttpMetrics http;

  std::string render(const std::string& model_name = "m") const {
    const KvPoolFacts kv_pool{.block_size = 64, .dtype = "int8", .num_bytes = 12345};
    return PrometheusExporter(engine, http, model_name, kv_pool).render();
  }
};

/// Type by family name.
std::map<std::string, std::string> types_in(const std::string& text) {
  std::map<std::string, std::string> types;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    const size_t blank = line.find(' ', 7);
    const bool is_new = types.emplace(line.substr(7, blank - 7), line.substr(blank + 1)).second;
    CAPTURE(line);
    CHECK(is_new);  // a family is described once
  }
  return types;
}

/// The value of a sample, name and labels as they stand in the text.
std::string sample(const std::string& text, const std::string& name_and_labels) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name_and_labels + " ")) return line.substr(name_and_labels.size() + 1);
  }
  return "absent";
}

TEST_CASE("the names that routers and dashboards read are there with their types") {
  const std::map<std::string, std::string> wanted = {
      {"vllm:num_requests_waiting", "gauge"},
      {"vllm:num_requests_running", "gauge"},
      {"vllm:kv_cache_usage_perc", "gauge"},
      {"vllm:cache_config_info", "gauge"},
      {"vllm:prefix_cache_queries_total", "counter"},
      {"vllm:prefix_cache_hits_total", "counter"},
      {"vllm:num_preemptions_total", "counter"},
      {"vllm:request_success_total", "counter"},
      {"vllm:time_to_first_token_seconds", "histogram"},
      {"vllm:inter_token_latency_seconds", "histogram"},
      {"vllm:e2e_request_latency_seconds", "histogram"},
      {"vllm:request_queue_time_seconds", "histogram"},
      {"vllm:request_prefill_time_seconds", "histogram"}};
  const auto types = types_in(Sources().render());
  for (const auto& [name, type] : wanted) {
    CAPTURE(name);
    REQUIRE(types.contains(name));
    CHECK(types.at(name) == type);
  }
}

TEST_CASE("the server's own names are there with their types") {
  const std::map<std::string, std::string> wanted = {
      {"quire_sequences_waiting", "gauge"},
      {"quire_sequences_running", "gauge"},
      {"quire_kv_cache_usage_ratio", "gauge"},
      {"quire_blocks", "gauge"},
      {"quire_prompt_tokens_total", "counter"},
      {"quire_generation_tokens_total", "counter"},
      {"quire_blocks_attended_total", "counter"},
      {"quire_blocks_available_total", "counter"},
      {"quire_requests_finished_total", "counter"},
      {"quire_http_responses_total", "counter"},
      {"quire_http_open_connections", "gauge"},
      {"quire_step_seconds", "histogram"},
      {"quire_time_to_first_token_seconds", "histogram"}};
  const auto types = types_in(Sources().render());
  for (const auto& [name, type] : wanted) {
    CAPTURE(name);
    REQUIRE(types.contains(name));
    CHECK(types.at(name) == type);
  }
  for (const auto& [name, type] : types) {
    CAPTURE(name);
    CHECK((name.starts_with("quire_") || name.starts_with("vllm:")));
    CHECK((type == "counter") == name.ends_with("_total"));
  }
}

TEST_CASE("every line is a comment or a sample with the model's label") {
  const std::regex line_shape(
      R"((# (HELP|TYPE) [a-zA-Z_:][a-zA-Z0-9_:]* .+)|)"
      R"([a-zA-Z_:][a-zA-Z0-9_:]*\{model_name="m"(,[a-z_]+="[^"]*")*\} [0-9.e+-]+)");
  const std::string text = Sources().render();
  CHECK(text.ends_with("\n"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    CAPTURE(line);
    CHECK(std::regex_match(line, line_shape));
  }
}

TEST_CASE("each alias shows the value of the name behind it") {
  Sources sources;
  sources.engine.sequences_waiting.set(3);
  sources.engine.sequences_running.set(5);
  sources.engine.blocks_total.set(200);
  sources.engine.blocks_in_use.set(50);
  sources.engine.prefix_query_tokens.add(1000);
  sources.engine.prefix_hit_tokens.add(640);
  sources.engine.preemptions.add(2);
  sources.engine.finished_stop.add(7);
  sources.engine.finished_length.add(8);
  sources.engine.finished_cancelled.add(9);
  const std::string text = sources.render();
  const std::string model = "{model_name=\"m\"}";
  for (const std::string name : {"quire_sequences_waiting", "vllm:num_requests_waiting"}) {
    CHECK(sample(text, name + model) == "3");
  }
  for (const std::string name : {"quire_sequences_running", "vllm:num_requests_running"}) {
    CHECK(sample(text, name + model) == "5");
  }
  for (const std::string name : {"quire_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"}) {
    CHECK(sample(text, name + model) == "0.25");
  }
  for (const std::string prefix : {"quire_", "vllm:"}) {
    CHECK(sample(text, prefix + "prefix_cache_queries_total" + model) == "1000");
    CHECK(sample(text, prefix + "prefix_cache_hits_total" + model) == "640");
  }
  CHECK(sample(text, "quire_kv_cache_bytes" + model) == "12345");
  CHECK(sample(text, "vllm:num_preemptions_total" + model) == "2");
  CHECK(sample(text, R"(vllm:cache_config_info{model_name="m",block_size="64",)"
                     R"(cache_dtype="int8",num_gpu_blocks="200"})") == "1");
  CHECK(sample(text, R"(vllm:request_success_total{model_name="m",finished_reason="stop"})") ==
        "7");
  CHECK(sample(text, R"(vllm:request_success_total{model_name="m",finished_reason="length"})") ==
        "8");
  CHECK(sample(text, R"(quire_requests_finished_total{model_name="m",reason="cancelled"})") == "9");
}

TEST_CASE("a pool without blocks is not in use") {
  CHECK(sample(Sources().render(), R"(vllm:kv_cache_usage_perc{model_name="m"})") == "0");
}

TEST_CASE("a histogram's buckets are cumulative and end in all observations") {
  Sources sources;
  for (const double seconds : {0.0005, 0.001, 0.3, 99999.0}) {
    sources.engine.queue_seconds.observe(seconds);
  }
  const std::string text = sources.render();
  for (const std::string name :
       {"quire_request_queue_time_seconds", "vllm:request_queue_time_seconds"}) {
    const auto bucket = [&](const std::string& bound) {
      return sample(text, name + R"(_bucket{model_name="m",le=")" + bound + R"("})");
    };
    CHECK(bucket("0.001") == "2");
    CHECK(bucket("0.1") == "2");
    CHECK(bucket("0.5") == "3");
    CHECK(bucket("1800") == "3");
    CHECK(bucket("+Inf") == "4");
    CHECK(sample(text, name + R"(_count{model_name="m"})") == "4");
    CHECK(std::stod(sample(text, name + R"(_sum{model_name="m"})")) == Approx(99999.3015));
  }
}

TEST_CASE("answers are counted by class") {
  Sources sources;
  sources.http.responses_2xx.add(3);
  sources.http.responses_4xx.add(2);
  sources.http.responses_5xx.add(1);
  sources.http.open_streams.add(4);
  const std::string text = sources.render();
  CHECK(sample(text, R"(quire_http_responses_total{model_name="m",class="2xx"})") == "3");
  CHECK(sample(text, R"(quire_http_responses_total{model_name="m",class="4xx"})") == "2");
  CHECK(sample(text, R"(quire_http_responses_total{model_name="m",class="5xx"})") == "1");
  CHECK(sample(text, R"(quire_http_open_streams{model_name="m"})") == "4");
}

TEST_CASE("a model's name cannot break out of its label") {
  CHECK_THAT(Sources().render("a\"b\\c\nd"), Contains(R"({model_name="a\"b\\c\nd"})"));
}

}  // namespace
}  // namespace quire
