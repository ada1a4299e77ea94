#include <pthread.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/queue_gate.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "kernels/backend_registry.h"
#include "models/generation_config.h"
#include "models/model.h"
#include "server/admin/health.h"
#include "server/admin/prometheus.h"
#include "server/auth.h"
#include "server/banner.h"
#include "server/bundled_model.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"
#include "server/inference_service.h"
#include "server/machine_memory.h"
#include "server/progress_bar.h"
#include "server/server_config.h"
#include "server/serving_plan.h"

namespace quire {
namespace {

constexpr int kBadStart = 2;
constexpr auto kFlushGrace = std::chrono::seconds(5);  // for answers that are on their way

/// The signals that end the server, blocked in every thread and taken by one wait.
class StopSignals {
 public:
  StopSignals() {
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  int wait() const {
    int number = 0;
    sigwait(&signals_, &number);
    return number;
  }
  /// A second Ctrl-C ends the process at once; a second SIGTERM changes nothing.
  void let_interrupt_kill() const {
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
  }

 private:
  sigset_t signals_;
};

// For a step's input arrays, the allocator's rounding and the driver.
constexpr uint64_t kDeviceMarginBytes = uint64_t{256} << 20;

void set_up_log(const std::string& level) {
  auto logger =
      std::make_shared<spdlog::logger>("quire", std::make_shared<spdlog::sinks::stdout_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

/// Throws std::runtime_error, in the words of the flags, if it lacks what they ask for.
std::unique_ptr<Backend> make_backend_for(const ServerConfig& config) {
  auto backend = make_backend(
      config.backend, {.num_threads = config.threads, .decode_graphs = !config.no_decode_graphs});
  for (const auto& [flag, value] :
       {std::pair("--weights", &config.weights), std::pair("--kv-dtype", &config.kv_dtype)}) {
    if (*value == "f32" && !backend->has_f32_attention()) {
      throw std::runtime_error(std::string(flag) + ": f32 is for --backend reference, not " +
                               std::string(backend->name()));
    }
  }
  return backend;
}

/// Everything that serves, built in the order of its dependencies and taken down in reverse.
class Server {
 public:
  explicit Server(ServerConfig given)
      : config_(std::move(given)),
        backend_(make_backend_for(config_)),
        model_config_(load_model_config(config_.model)),
        sampling_(config_.generation_config == "auto" ? load_sampling_defaults(config_.model)
                                                      : SamplingDefaults{}),
        plan_(make_serving_plan(config_, model_config_, memory_before_loading(), sampling_)),
        tokenizer_(load_tokenizer(config_.model, config_.threads)),  // tells sooner what is amiss
        chat_template_(load_chat_template(config_.model)),
        model_(load_weights()),
        kv_storage_(*backend_, fit_to_device().kv),
        runner_(*backend_, *model_, kv_storage_, step_limits()),
        engine_(plan_.engine, runner_, clock_, metrics_),
        queue_gate_(std::make_shared<QueueGate>(plan_.engine.max_queued_requests,
                                                plan_.engine.max_queued_tokens)),
        service_(plan_.service, engine_, *tokenizer_, *chat_template_, *queue_gate_, clock_,
                 metrics_),
        auth_(config_.api_keys),
        health_(engine_, metrics_, clock_),
        exporter_(metrics_, http_metrics_, plan_.service.model_name,
                  {.block_size = plan_.moba.block_size,
                   .dtype = config_.kv_dtype,
                   .num_bytes = plan_.kv_bytes}) {}

  void log_banner() const { spdlog::info("{}", make_banner(config_, plan_, *model_, *backend_)); }

  void serve_until(const StopSignals& signals) {
    HttpServer http(plan_.http, service_, auth_, health_, exporter_, http_metrics_);
    std::unique_ptr<GrpcServer> grpc;
    if (!config_.no_grpc) {
      grpc = std::make_unique<GrpcServer>(
          GrpcServerConfig{.host = config_.host,
                           .port = config_.grpc_port,
                           .max_message_bytes = plan_.http.max_body_bytes},
          service_, auth_, health_);
    }
    engine_.start();
    http.start();
    log_ready(http, grpc.get());

    const int number = signals.wait();
    signals.let_interrupt_kill();
    spdlog::info("signal {}: draining for at most {} s", number, config_.drain_timeout);
    // Both protocols go on answering while the engine drains: what runs is finished, what comes
    // is told to come back (503, UNAVAILABLE).
    engine_.drain_and_stop(clock_.now() +
                           std::chrono::duration_cast<Clock::TimePoint::duration>(
                               std::chrono::duration<double>(config_.drain_timeout)));
    const Clock::TimePoint flush_deadline = clock_.now() + kFlushGrace;
    if (grpc) grpc->stop(flush_deadline);
    http.stop(flush_deadline);
    spdlog::info("stopped");
  }

 private:
  /// With a bar, if a person looks on.
  std::unique_ptr<Model> load_weights() {
    LoadOptions options{.max_model_len = plan_.engine.max_model_len,
                        .keep_fp8 = config_.weights == "fp8",
                        .log = [](const std::string& line) { spdlog::info("{}", line); }};
    std::optional<ProgressBar> bar;
    if (const size_t width = terminal_width(); width > 0) {
      bar.emplace(clock_, width, [](std::string_view text) {
        std::fwrite(text.data(), 1, text.size(), stderr);
        std::fflush(stderr);
      });
      options.progress = [&bar](int64_t read, int64_t all) { bar->update(read, all); };
      options.log = [&bar, log = options.log](const std::string& line) {
        bar->print_above([&] { log(line); });
      };
    }
    return load_model(config_.model, *backend_, &plan_.moba, weight_format(config_), options);
  }

  /// Of the machine or, before the weights are there, of the GPU.
  PoolMemory memory_before_loading() const {
    const DeviceMemory memory = backend_->device_memory();
    if (!memory.exists()) return available_memory_bytes();
    return pool_memory_on_device(config_, memory, 0);
  }

  /// A GPU's pool takes what the loaded weights have left, so it is planned a second time.
  const ServingPlan& fit_to_device() {
    const DeviceMemory memory = backend_->device_memory();
    if (!memory.exists()) return plan_;
    const uint64_t step_bytes = model_->workspace_bytes(step_limits()) +
                                uint64_t{sizeof(float)} *
                                    static_cast<uint64_t>(plan_.engine.max_num_seqs) *
                                    static_cast<uint64_t>(plan_.engine.vocab_size) +
                                kDeviceMarginBytes;
    plan_ = make_serving_plan(config_, model_config_,
                              pool_memory_on_device(config_, memory, step_bytes), sampling_);
    return plan_;
  }

  StepLimits step_limits() const {
    return {.max_tokens = plan_.engine.max_step_tokens,
            .max_logit_rows = plan_.engine.max_num_seqs,
            .max_top_k = plan_.engine.max_top_k};
  }

  void log_ready(const HttpServer& http, const GrpcServer* grpc) const {
    const std::string host =
        config_.host.find(':') == std::string::npos ? config_.host : "[" + config_.host + "]";
    std::string line = "ready http=http://" + host + ":" + std::to_string(http.port());
    if (grpc != nullptr) line += " grpc=" + host + ":" + std::to_string(grpc->port());
    spdlog::info("{}", line);
  }

  ServerConfig config_;
  SteadyClock clock_;
  EngineMetrics metrics_;
  HttpMetrics http_metrics_;
  std::unique_ptr<Backend> backend_;
  ModelConfig model_config_;
  SamplingDefaults sampling_;
  ServingPlan plan_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<Model> model_;
  KvStorage kv_storage_;
  ModelRunner runner_;
  Engine engine_;
  std::shared_ptr<QueueGate> queue_gate_;
  InferenceService service_;
  Authenticator auth_;
  Health health_;
  PrometheusExporter exporter_;
};

int run(int argc, char** argv) {
  const StopSignals signals;  // before any thread exists
  ServerConfig config = parse_command_line(argc, argv);
  set_up_log(config.log_level);
  if (config.model.empty()) config.model = bundled_model();
  const bool only_checks = config.check_config;
  Server server(std::move(config));
  server.log_banner();
  if (only_checks) return 0;
  server.serve_until(signals);
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  try {
    return quire::run(argc, argv);
  } catch (const quire::CommandLineExit& exit) {
    std::FILE* out = exit.exit_code == 0 ? stdout : stderr;
    std::fprintf(out, "%s%s\n", exit.exit_code == 0 ? "" : "quire: ", exit.text.c_str());
    return exit.exit_code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quire: %s\n", error.what());
    return quire::kBadStart;
  }
}
