#include "server/admin/prometheus.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>
#include <utility>
#include <vector>

namespace quire {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

/// Collects families; one metric each unless labels say more.
class Scrape {
 public:
  explicit Scrape(Labels labels) : labels_(std::move(labels)) {}

  void gauge(const char* name, const char* help, double value) {
    ClientMetric metric = labelled();
    metric.gauge.value = value;
    add(name, help, MetricType::Gauge, std::move(metric));
  }
  void counter(const char* name, const char* help, const Counter& counter) {
    labelled_counter(name, help, "", {{"", &counter}});
  }
  void labelled_counter(const char* name, const char* help, const char* label,
                        const std::vector<std::pair<const char*, const Counter*>>& counters) {
    MetricFamily family{.name = name, .help = help, .type = MetricType::Counter, .metric = {}};
    for (const auto& [label_value, counter] : counters) {
      ClientMetric metric = labelled();
      if (*label != '\0') metric.label.push_back({label, label_value});
      metric.counter.value = static_cast<double>(counter->value());
      family.metric.push_back(std::move(metric));
    }
    families_.push_back(std::move(family));
  }
  void histogram(const char* name, const char* help, const Histogram& histogram) {
    ClientMetric metric = labelled();
    uint64_t count = 0;
    const std::vector<double>& bounds = histogram.upper_bounds();
    for (size_t bucket = 0; bucket <= bounds.size(); ++bucket) {
      count += histogram.bucket_count(bucket);
      const double bound =
          bucket < bounds.size() ? bounds[bucket] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({count, bound});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = histogram.sum();
    add(name, help, MetricType::Histogram, std::move(metric));
  }
  void info(const char* name, const char* help, const Labels& labels) {
    ClientMetric metric = labelled();
    metric.label.insert(metric.label.end(), labels.begin(), labels.end());
    metric.gauge.value = 1;
    add(name, help, MetricType::Gauge, std::move(metric));
  }
  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  ClientMetric labelled() const {
    ClientMetric metric;
    metric.label = labels_;
    return metric;
  }
  void add(const char* name, const char* help, MetricType type, ClientMetric metric) {
    families_.push_back({.name = name, .help = help, .type = type, .metric = {std::move(metric)}});
  }

  Labels labels_;
  std::vector<MetricFamily> families_;
};

double share_in_use(const EngineMetrics& engine) {
  const auto num_total = static_cast<double>(engine.blocks_total.value());
  return num_total > 0 ? static_cast<double>(engine.blocks_in_use.value()) / num_total : 0;
}

void add_engine(Scrape& scrape, const EngineMetrics& engine) {
  scrape.gauge("quire_sequences_waiting", "Sequences that wait for their first step.",
               static_cast<double>(engine.sequences_waiting.value()));
  scrape.gauge("quire_sequences_running", "Sequences in prefill or decode.",
               static_cast<double>(engine.sequences_running.value()));
  scrape.gauge("quire_blocks", "Blocks of the KV pool.",
               static_cast<double>(engine.blocks_total.value()));
  scrape.gauge("quire_blocks_free", "Blocks never used or evicted.",
               static_cast<double>(engine.blocks_free.value()));
  scrape.gauge("quire_blocks_cached", "Sealed blocks without a sequence, findable by prefix.",
               static_cast<double>(engine.blocks_cached.value()));
  scrape.gauge("quire_blocks_in_use", "Blocks that at least one sequence refers to.",
               static_cast<double>(engine.blocks_in_use.value()));
  scrape.gauge("quire_kv_cache_usage_ratio", "Share of the KV pool that sequences refer to, 0..1.",
               share_in_use(engine));
  scrape.counter("quire_prompt_tokens_total", "Prompt tokens of admitted sequences.",
                 engine.prompt_tokens);
  scrape.counter("quire_prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
                 engine.prefix_query_tokens);
  scrape.counter("quire_prefix_cache_hits_total", "Prompt tokens found in the prefix cache.",
                 engine.prefix_hit_tokens);
  scrape.counter("quire_prefill_tokens_total", "Tokens computed in prefill chunks.",
                 engine.prefill_tokens);
  scrape.counter("quire_generation_tokens_total", "Tokens sampled.", engine.generation_tokens);
  scrape.counter("quire_preemptions_total", "Sequences that lost their blocks and start again.",
                 engine.preemptions);
  scrape.counter("quire_blocks_sealed_total", "Blocks filled.", engine.blocks_sealed);
  scrape.counter("quire_blocks_evicted_total", "Cached blocks taken for other use.",
                 engine.blocks_evicted);
  scrape.counter("quire_blocks_attended_total", "Blocks attended, over tokens and layers.",
                 engine.blocks_attended);
  scrape.counter("quire_blocks_available_total", "Blocks that full attention would have attended.",
                 engine.blocks_available);
  scrape.counter("quire_steps_total", "Steps of the engine.", engine.steps);
  scrape.counter("quire_step_failures_total", "Steps that failed.", engine.step_failures);
  scrape.labelled_counter("quire_requests_finished_total", "Sequences by how they ended.", "reason",
                          {{"stop", &engine.finished_stop},
                           {"length", &engine.finished_length},
                           {"cancelled", &engine.finished_cancelled},
                           {"error", &engine.finished_error}});
  scrape.histogram("quire_step_seconds", "Duration of a step.", engine.step_seconds);
  scrape.histogram("quire_time_to_first_token_seconds", "Submission to first token.",
                   engine.ttft_seconds);
  scrape.histogram("quire_inter_token_latency_seconds", "Between tokens of a sequence.",
                   engine.inter_token_seconds);
  scrape.histogram("quire_e2e_request_latency_seconds", "Submission to last token.",
                   engine.e2e_seconds);
  scrape.histogram("quire_request_queue_time_seconds", "Submission to first step.",
                   engine.queue_seconds);
  scrape.histogram("quire_request_prefill_time_seconds", "First step to first token.",
                   engine.prefill_seconds);
}

void add_http(Scrape& scrape, const HttpMetrics& http) {
  scrape.gauge("quire_http_open_connections", "Open HTTP connections.",
               static_cast<double>(http.open_connections.value()));
  scrape.gauge("quire_http_open_streams", "Event streams under way.",
               static_cast<double>(http.open_streams.value()));
  scrape.labelled_counter(
      "quire_http_responses_total", "Answers by class of status.", "class",
      {{"2xx", &http.responses_2xx}, {"4xx", &http.responses_4xx}, {"5xx", &http.responses_5xx}});
  scrape.counter("quire_http_requests_rejected_total", "Answers 429 and 503.",
                 http.requests_rejected);
  scrape.counter("quire_http_clients_disconnected_total", "Clients that left before their answer.",
                 http.clients_disconnected);
}

/// The names that the Gateway API endpoint picker and common dashboards read.
void add_aliases(Scrape& scrape, const EngineMetrics& engine, const KvPoolFacts& kv_pool) {
  scrape.gauge("vllm:num_requests_waiting", "As quire_sequences_waiting.",
               static_cast<double>(engine.sequences_waiting.value()));
  scrape.gauge("vllm:num_requests_running", "As quire_sequences_running.",
               static_cast<double>(engine.sequences_running.value()));
  scrape.gauge("vllm:kv_cache_usage_perc", "As quire_kv_cache_usage_ratio.", share_in_use(engine));
  scrape.info("vllm:cache_config_info", "Shape of the KV pool.",
              {{"block_size", std::to_string(kv_pool.block_size)},
               {"cache_dtype", kv_pool.dtype},
               {"num_gpu_blocks", std::to_string(engine.blocks_total.value())}});
  scrape.counter("vllm:prefix_cache_queries_total", "As quire_prefix_cache_queries_total.",
                 engine.prefix_query_tokens);
  scrape.counter("vllm:prefix_cache_hits_total", "As quire_prefix_cache_hits_total.",
                 engine.prefix_hit_tokens);
  scrape.counter("vllm:num_preemptions_total", "As quire_preemptions_total.", engine.preemptions);
  scrape.histogram("vllm:time_to_first_token_seconds", "As quire_time_to_first_token_seconds.",
                   engine.ttft_seconds);
  scrape.histogram("vllm:inter_token_latency_seconds", "As quire_inter_token_latency_seconds.",
                   engine.inter_token_seconds);
  scrape.histogram("vllm:e2e_request_latency_seconds", "As quire_e2e_request_latency_seconds.",
                   engine.e2e_seconds);
  scrape.histogram("vllm:request_queue_time_seconds", "As quire_request_queue_time_seconds.",
                   engine.queue_seconds);
  scrape.histogram("vllm:request_prefill_time_seconds", "As quire_request_prefill_time_seconds.",
                   engine.prefill_seconds);
  scrape.labelled_counter("vllm:request_success_total", "As quire_requests_finished_total.",
                          "finished_reason",
                          {{"stop", &engine.finished_stop}, {"length", &engine.finished_length}});
}

}  // namespace

struct PrometheusExporter::Impl {
  const EngineMetrics& engine;
  const HttpMetrics& http;
  std::string model_name;
  KvPoolFacts kv_pool;
};

PrometheusExporter::PrometheusExporter(const EngineMetrics& engine, const HttpMetrics& http,
                                       std::string model_name, KvPoolFacts kv_pool)
    : impl_(std::make_unique<Impl>(Impl{engine, http, std::move(model_name), std::move(kv_pool)})) {
}

PrometheusExporter::~PrometheusExporter() = default;

std::string PrometheusExporter::render() const {
  Scrape scrape({{"model_name", impl_->model_name}});
  add_engine(scrape, impl_->engine);
  scrape.gauge("quire_kv_cache_bytes", "Bytes of the KV pool: keys, values, scales, centroids.",
               static_cast<double>(impl_->kv_pool.num_bytes));
  add_http(scrape, impl_->http);
  add_aliases(scrape, impl_->engine, impl_->kv_pool);
  return scrape.text();
}

}  // namespace quire
