#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace quire {

/// Everything a user can set. Flags beat environment variables (QUIRE_…), those beat the TOML
/// file. Zero or empty stands for "chosen at start" where the comment says so.
struct ServerConfig {
  // model
  std::filesystem::path model;    // empty: the bundled one
  std::string served_model_name;  // empty: the name of the folder or GGUF file
  bool accept_any_model = false;  // whatever model a request names, this one answers
  std::string backend = "auto";
  std::string weights = "bf16";            // bf16, int8, fp8, f32
  std::string generation_config = "auto";  // auto: its sampling defaults are taken; none
  int threads = 0;                // of one op and of tokenising; 0: all that the process may use
  bool no_decode_graphs = false;  // a GPU gets the ops of a decode step one by one
  // context and cache
  int32_t max_model_len = 0;            // tokens; 0: the model's, or what the KV pool holds
  bool beyond_model_len = false;        // max_model_len may exceed what the model was made for
  uint64_t kv_cache_memory = 0;         // bytes; 0: half of the memory that is free
  std::string kv_dtype = "bf16";        // of keys and values in the KV pool: bf16, int8, f32
  double gpu_memory_utilization = 0.9;  // share of a GPU's memory that the process may take
  bool no_prefix_cache = false;
  // attention; absent: the model's
  std::optional<int32_t> moba_block_size, moba_top_k, moba_decode_top_k;
  std::string moba_schedule;              // FROM:GROUP[:TOP_K],… or none; empty: the model's
  std::string moba_digest;                // mean, bounds, cuboid-mean; empty: the model's
  std::vector<int32_t> moba_full_layers;  // by number; and the last moba_full_last ones
  int32_t moba_full_last = 0;
  bool has_full_layers = false;           // absent: the model's
  std::string attention = "auto";         // of requests that do not choose: auto, moba, full
  std::string moba_prefill, moba_decode;  // moba, full; empty: the model's
  // scheduling
  int32_t max_num_seqs = 64;
  int32_t max_step_tokens = 4096;
  double max_step_ms = 100;  // beside decodes; 0: as long as max_step_tokens take
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = 8'000'000;
  double request_timeout = 0;  // seconds; 0: none
  double drain_timeout = 30;   // seconds
  // network
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  uint16_t grpc_port = 8001;
  bool no_grpc = false;
  std::vector<std::string> api_keys;
  std::filesystem::path api_key_file;  // one key a line
  uint64_t max_body_size = 64 << 20;   // bytes
  uint64_t max_unsent_stream_bytes = 1 << 20;
  int32_t max_connections = 4096;
  double keepalive = 15;  // seconds between comments on silent streams
  int http_threads = 2;
  int text_threads = 2;
  // other
  std::string log_level = "info";
  bool check_config = false;
};

/// The command line is bad, or asks for help or the version: what to print, and the exit code.
struct CommandLineExit {
  int exit_code = 0;
  std::string text;
};

/// Reads command line, environment and file. Throws CommandLineExit; also std::runtime_error for
/// a key file that cannot be read.
ServerConfig parse_command_line(int argc, const char* const* argv);

}  // namespace quire
