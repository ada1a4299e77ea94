#include "server/server_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace quire {
namespace {

constexpr int kBadSettings = 2;
constexpr size_t kMaxQuotedBytes = 64;
constexpr uint64_t kMaxBytes = uint64_t{1} << 50;

/// A number of bytes with or without a unit. The bound also catches "-1", which CLI11 reads as the
/// largest number there is.
CLI::Option* add_size_option(CLI::App& app, const char* name, uint64_t& target, uint64_t least,
                             const char* help) {
  return app.add_option(name, target, help)
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(least, kMaxBytes));
}

/// CLI::Range lets NaN through.
CLI::Validator seconds_between(double low, double high) {
  const auto check = [low, high](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high) return {};
    return "Value " + text + " not in range " + CLI::detail::to_string(low) + " to " +
           CLI::detail::to_string(high);
  };
  return CLI::Validator(check, "SECONDS");
}

void add_model_options(CLI::App& app, ServerConfig& config) {
  app.add_option("--model", config.model,
                 "Hugging Face folder or GGUF file; default: the bundled model");
  app.add_option("--served-model-name", config.served_model_name, "name in the API");
  app.add_flag("--accept-any-model", config.accept_any_model,
               "answer requests for other models, too, under the own name");
  app.add_option("--backend", config.backend, "auto, cpu, reference, cuda:N")
      ->capture_default_str();
  app.add_option("--weights", config.weights,
                 "bf16; int8: half the memory, rounded; fp8: what is stored in FP8 stays so (GPU); "
                 "f32: nothing is rounded (reference)")
      ->check(CLI::IsMember({"bf16", "int8", "fp8", "f32"}))
      ->capture_default_str();
  app.add_option("--generation-config", config.generation_config,
                 "auto: requests that do not say are sampled as the model's "
                 "generation_config.json wants; none: as OpenAI's")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
  app.add_option("--threads", config.threads, "CPU threads of one op; 0: all available")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--no-decode-graphs", config.no_decode_graphs,
               "a GPU gets the operations of a decode step one by one, not as a CUDA graph");
  app.add_option("--max-model-len", config.max_model_len,
                 "tokens of prompt and completion; 0: the model's, or what the KV pool holds")
      ->check(CLI::Range(0, 1 << 30));
  app.add_flag("--beyond-model-len", config.beyond_model_len,
               "let --max-model-len exceed the positions that the model was made for");
  add_size_option(app, "--kv-cache-memory", config.kv_cache_memory, 0,
                  "bytes of the KV pool, like 8GiB; 0: half of the free memory, or "
                  "what --gpu-memory-utilization leaves");
  app.add_option("--kv-dtype", config.kv_dtype,
                 "of the KV pool: bf16; int8 with a scale per token and head; f32 (reference)")
      ->check(CLI::IsMember({"bf16", "int8", "f32"}))
      ->capture_default_str();
  app.add_option("--gpu-memory-utilization", config.gpu_memory_utilization,
                 "share of a GPU's memory for weights, scratch and KV pool together")
      ->check(CLI::Range(0.05, 1.0))
      ->capture_default_str();
  app.add_flag("--no-prefix-cache", config.no_prefix_cache, "never reuse blocks between requests");
}

/// Numbers of layers, and "last:N". How many there are is the model's to say.
void read_full_layers(const std::vector<std::string>& entries, ServerConfig& config) {
  constexpr std::string_view kLast = "last:";
  config.has_full_layers = true;
  for (const std::string& entry : entries) {
    const bool is_last = entry.starts_with(kLast);
    const char* const begin = entry.data() + (is_last ? kLast.size() : 0);
    const char* const end = entry.data() + entry.size();
    int32_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stop != end || number < (is_last ? 1 : 0)) {
      throw CLI::ValidationError(
          "--moba-full-layers",
          "expected a layer's number or last:N, got \"" + entry.substr(0, kMaxQuotedBytes) + "\"");
    }
    if (is_last) {
      config.moba_full_last = std::max(config.moba_full_last, number);
    } else {
      config.moba_full_layers.push_back(number);
    }
  }
}

void add_attention_options(CLI::App& app, ServerConfig& config) {
  const CLI::IsMember modes({"moba", "full"});
  app.add_option("--attention", config.attention, "of requests that do not choose")
      ->check(CLI::IsMember({"auto", "moba", "full"}))
      ->capture_default_str();
  app.add_option("--moba-block-size,--moba-block", config.moba_block_size, "tokens per block")
      ->check(CLI::Range(1, 65536));
  app.add_option("--moba-top-k", config.moba_top_k, "blocks per token and head")
      ->check(CLI::Range(1, 65536));
  app.add_option("--moba-decode-top-k", config.moba_decode_top_k,
                 "the same of completion tokens; default: --moba-top-k, else the model's")
      ->check(CLI::Range(1, 65536));
  app.add_option(
      "--moba-schedule", config.moba_schedule,
      "larger units for later tokens: FROM:GROUP[:TOP_K],… in tokens, blocks, units; or none");
  app.add_option("--moba-digest", config.moba_digest,
                 "what stands for a block where a query chooses: mean, bounds (Quest) or "
                 "cuboid-mean (ArkVale)")
      ->check(CLI::IsMember({"mean", "bounds", "cuboid-mean"}));
  app.add_option_function<std::vector<std::string>>(
         "--moba-full-layers",
         [&config](const std::vector<std::string>& entries) { read_full_layers(entries, config); },
         "layers that run full attention: numbers, last:N for the last N, or both")
      ->delimiter(',');
  app.add_option("--moba-prefill", config.moba_prefill, "moba or full")->check(modes);
  app.add_option("--moba-decode", config.moba_decode, "moba or full")->check(modes);
}

void add_scheduling_options(CLI::App& app, ServerConfig& config) {
  app.add_option("--max-num-seqs", config.max_num_seqs, "sequences that run at once")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--max-step-tokens", config.max_step_tokens, "token budget of one step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-step-ms", config.max_step_ms,
                 "longest step while others decode beside a prompt; 0: no limit")
      ->check(CLI::Range(0.0, 60'000.0))
      ->capture_default_str();
  app.add_option("--max-queued-requests", config.max_queued_requests, "requests that may wait")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-queued-tokens", config.max_queued_tokens, "their tokens together")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--request-timeout", config.request_timeout, "seconds per request; 0: none")
      ->check(seconds_between(0, 604800));
  app.add_option("--drain-timeout", config.drain_timeout, "seconds to finish after SIGTERM")
      ->check(seconds_between(0, 86400))
      ->capture_default_str();
}

void add_network_options(CLI::App& app, ServerConfig& config) {
  app.add_option("--host", config.host, "address to listen on")->capture_default_str();
  app.add_option("--port", config.port, "HTTP; 0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--grpc-port", config.grpc_port, "gRPC; 0: any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_flag("--no-grpc", config.no_grpc, "serve HTTP only");
  app.add_option("--api-key", config.api_keys, "a key that is let in; repeatable")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--api-key-file", config.api_key_file, "file with one key a line");
  add_size_option(app, "--max-body-size", config.max_body_size, 1,
                  "bytes of a request, like 64MiB");
  add_size_option(app, "--max-unsent-stream-bytes", config.max_unsent_stream_bytes, 1,
                  "a client further behind than this is cut off");
  app.add_option("--max-connections", config.max_connections, "open HTTP connections")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--keepalive", config.keepalive, "seconds between comments on silent streams")
      ->check(seconds_between(0.01, 3600))
      ->capture_default_str();
  app.add_option("--http-threads", config.http_threads, "I/O threads")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--text-threads", config.text_threads, "requests tokenised at once")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--log-level", config.log_level, "debug, info, warn, error, off")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
}

/// "--max-num-seqs" is QUIRE_MAX_NUM_SEQS in the environment.
std::string environment_name(std::string flag) {
  std::ranges::transform(flag, flag.begin(), [](char c) {
    return c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  });
  return "QUIRE_" + flag;
}

/// The command line with what the environment adds. CLI11's own environment variables would lose
/// against the file.
std::vector<std::string> arguments_with_environment(const CLI::App& app, int argc,
                                                    const char* const* argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::vector<std::string> added;
  for (const CLI::Option* option : app.get_options()) {
    const std::string flag = option->get_single_name();
    if (flag == "help" || flag == "version" || flag == "check-config") continue;
    const char* value = std::getenv(environment_name(flag).c_str());
    const bool is_given = std::ranges::any_of(arguments, [&](const std::string& argument) {
      return argument == "--" + flag || argument.starts_with("--" + flag + "=");
    });
    if (value != nullptr && *value != '\0' && !is_given) {
      added.push_back("--" + flag + "=" + value);
    }
  }
  arguments.insert(arguments.end(), added.begin(), added.end());
  std::ranges::reverse(arguments);  // the order CLI11 takes a vector in
  return arguments;
}

void read_key_file(ServerConfig& config) {
  if (config.api_key_file.empty()) return;
  std::ifstream file(config.api_key_file);
  size_t num_keys = 0;
  for (std::string line; std::getline(file, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    line.erase(0, line.find_first_not_of(" \t"));  // an indented comment is no key
    if (line.empty() || line.starts_with('#')) continue;
    config.api_keys.push_back(line);
    ++num_keys;
  }
  if (num_keys == 0) {
    throw std::runtime_error("--api-key-file: no key in " + config.api_key_file.string());
  }
}

/// What CLI11 says about the file: "INI was not able to parse <key>", or "<section>.++".
std::string unknown_key_text(const std::string& what) {
  constexpr std::string_view kUnknown = "INI was not able to parse ";
  if (!what.starts_with(kUnknown)) return "--config: " + what;
  std::string key = what.substr(kUnknown.size());
  if (!key.ends_with(".++")) return "--config: unknown key " + key;
  key.resize(key.size() - 3);
  return "--config: unknown section " + key + "; keys stand without one";
}

std::string first_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace

ServerConfig parse_command_line(int argc, const char* const* argv) {
  ServerConfig config;
  CLI::App app("Quire: long-context LLM server with Mixture of Block Attention.", "quire");
  app.set_version_flag("--version", "quire " QUIRE_VERSION);
  app.set_config("--config", "", "TOML file with the long flag names as keys");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.add_flag("--check-config", config.check_config,
               "check all settings and the model, then exit");
  add_model_options(app, config);
  add_attention_options(app, config);
  add_scheduling_options(app, config);
  add_network_options(app, config);
  try {
    app.parse(arguments_with_environment(app, argc, argv));
  } catch (const CLI::Success& success) {
    std::ostringstream out, unused;
    app.exit(success, out, unused);
    throw CommandLineExit{0, out.str()};
  } catch (const CLI::ConfigError& error) {
    throw CommandLineExit{kBadSettings, unknown_key_text(first_line(error.what()))};
  } catch (const CLI::ParseError& error) {
    throw CommandLineExit{kBadSettings, first_line(error.what())};
  }
  for (const std::string& key : config.api_keys) {
    if (key.empty()) throw CommandLineExit{kBadSettings, "--api-key: a key must not be empty"};
  }
  read_key_file(config);
  return config;
}

}  // namespace quire
