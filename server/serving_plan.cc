#include "server/serving_plan.h"

#include <algorithm>
#include <ctime>
#include <set>
#include <stdexcept>

namespace quire {
namespace {

constexpr int64_t kMaxAutoFullRequests = 4;  // more pool than that is not taken unasked
constexpr uint64_t kFallbackMemoryBytes = uint64_t{1} << 30;
// Of a request; scratch memory grows with the blocks that a token may select.
constexpr int32_t kMaxTopK = 256;
constexpr int32_t kMaxSelectedBlocks = 4096;

std::string model_name(const ServerConfig& config) {
  if (!config.served_model_name.empty()) return config.served_model_name;
  std::filesystem::path folder =
      (std::filesystem::current_path() / config.model).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // a slash at the end
  return (folder.extension() == ".gguf" ? folder.stem() : folder.filename()).string();
}

/// FNV-1a: the fingerprint names model and semantics, it guards nothing.
std::string fingerprint(const ModelConfig& model, const ServingPlan& plan) {
  uint64_t hash = 14695981039346656037ull;
  const MobaConfig& moba = plan.engine.moba;
  const std::string sampling = sampling_text(plan.service.sampling);
  std::string facts =
      plan.service.model_name + '/' + model.architecture + '/' + std::to_string(model.num_layers) +
      '/' + std::to_string(model.hidden_size) + '/' + std::to_string(model.vocab_size) + '/' +
      std::to_string(moba.block_size) + '/' + std::to_string(moba.top_k) + '/' +
      std::to_string(moba.top_k_of_decode()) + '/' + schedule_text(moba.schedule) + '/' +
      std::string(digest_name(moba.digest)) + '/' + std::to_string(static_cast<int>(moba.prefill)) +
      std::to_string(static_cast<int>(moba.decode)) + '/' + std::string(dtype_name(plan.kv.dtype)) +
      "/" QUIRE_VERSION;
  for (const int32_t layer : moba.full_attention_layers) facts += "/full" + std::to_string(layer);
  if (sampling != sampling_text({})) facts += '/' + sampling;
  for (const char c : facts) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  char text[16];
  std::snprintf(text, sizeof text, "fp_%010llx",
                static_cast<unsigned long long>(hash & 0xffffffffffull));
  return text;
}

int64_t blocks_for(int64_t num_tokens, int64_t block_size) {
  return (num_tokens + block_size - 1) / block_size;
}

int64_t choose_num_blocks(const ServerConfig& config, const KvStorage::Shape& shape,
                          int64_t wanted_len, const PoolMemory& memory) {
  const auto bytes_per_block = static_cast<uint64_t>(KvStorage::bytes_per_block(shape));
  uint64_t num_bytes = config.kv_cache_memory;
  if (num_bytes == 0) {
    num_bytes =
        memory.available_bytes == 0
            ? kFallbackMemoryBytes
            : static_cast<uint64_t>(memory.share * static_cast<double>(memory.available_bytes));
    const auto ceiling =
        static_cast<uint64_t>(kMaxAutoFullRequests * blocks_for(wanted_len, shape.block_size)) *
        bytes_per_block;
    num_bytes = std::min(num_bytes, ceiling);
  }
  const uint64_t num_blocks = num_bytes / bytes_per_block;
  if (num_blocks == 0) {
    throw std::runtime_error("--kv-cache-memory: " + std::to_string(num_bytes) +
                             " bytes hold no block; one block takes " +
                             std::to_string(bytes_per_block));
  }
  return static_cast<int64_t>(std::min<uint64_t>(num_blocks, INT32_MAX));
}

int32_t choose_model_len(const ServerConfig& config, const ModelConfig& model,
                         int64_t num_pool_tokens) {
  if (config.max_model_len > model.max_position_embeddings && !config.beyond_model_len) {
    throw std::runtime_error("--max-model-len: " + std::to_string(config.max_model_len) +
                             " is more than the model's context of " +
                             std::to_string(model.max_position_embeddings) +
                             "; --beyond-model-len allows it");
  }
  if (config.max_model_len > num_pool_tokens) {
    throw std::runtime_error("--max-model-len: " + std::to_string(config.max_model_len) +
                             " is more than the " + std::to_string(num_pool_tokens) +
                             " tokens that --kv-cache-memory holds");
  }
  if (config.max_model_len > 0) return config.max_model_len;
  return static_cast<int32_t>(std::min<int64_t>(model.max_position_embeddings, num_pool_tokens));
}

int32_t choose_max_top_k(const MobaConfig& moba) {
  int32_t max_top_k = kMaxTopK;
  while (max_top_k > 1 && moba.schedule.max_selected(max_top_k, INT64_MAX) > kMaxSelectedBlocks) {
    max_top_k /= 2;
  }
  return std::max({max_top_k, moba.top_k, moba.top_k_of_decode()});
}

HttpServerConfig http_config(const ServerConfig& config) {
  HttpServerConfig http;
  http.host = config.host;
  http.port = config.port;
  http.num_threads = config.http_threads;
  http.max_body_bytes = static_cast<int64_t>(config.max_body_size);
  http.max_connections = config.max_connections;
  http.keepalive_comment_seconds = config.keepalive;
  http.max_unsent_stream_bytes = static_cast<int64_t>(config.max_unsent_stream_bytes);
  return http;
}

/// --moba-full-layers in ascending order, each once.
std::vector<int32_t> full_layers(const ServerConfig& config, int32_t num_layers) {
  if (config.moba_full_last > num_layers) {
    throw LoadError("--moba-full-layers: last:" + std::to_string(config.moba_full_last) +
                    ", and the model has " + std::to_string(num_layers) + " layers");
  }
  std::set<int32_t> layers(config.moba_full_layers.begin(), config.moba_full_layers.end());
  for (const int32_t layer : layers) {
    if (layer < num_layers) continue;
    throw LoadError("--moba-full-layers: " + std::to_string(layer) +
                    ", and the model's layers are 0 to " + std::to_string(num_layers - 1));
  }
  for (int32_t layer = num_layers - config.moba_full_last; layer < num_layers; ++layer) {
    layers.insert(layer);
  }
  return {layers.begin(), layers.end()};
}

AttentionMode mode_of(const std::string& text, AttentionMode otherwise) {
  if (text == "moba") return AttentionMode::kMoba;
  if (text == "full") return AttentionMode::kFull;
  return otherwise;
}

DType kv_dtype(const ServerConfig& config) {
  if (config.kv_dtype == "f32") return DType::kF32;
  return config.kv_dtype == "int8" ? DType::kI8 : DType::kBF16;
}

}  // namespace

MobaConfig choose_moba(const ServerConfig& config, ModelConfig model) {
  // Weights that were not trained for it run full attention unless somebody asks for MoBA.
  MobaConfig moba = model.moba.value_or(
      MobaConfig{.prefill = AttentionMode::kFull, .decode = AttentionMode::kFull});
  if (config.moba_block_size) moba.block_size = *config.moba_block_size;
  if (config.moba_top_k) {
    moba.top_k = *config.moba_top_k;
    moba.decode_top_k.reset();
  }
  if (config.moba_decode_top_k) moba.decode_top_k = config.moba_decode_top_k;
  if (!config.moba_schedule.empty()) {
    moba.schedule = parse_selection_schedule(config.moba_schedule, "--moba-schedule");
  }
  if (!config.moba_digest.empty()) {
    const auto digest = digest_named(config.moba_digest);
    if (!digest) throw LoadError("--moba-digest: no digest is named " + config.moba_digest);
    moba.digest = *digest;
  }
  if (config.has_full_layers) moba.full_attention_layers = full_layers(config, model.num_layers);
  moba.prefill = mode_of(config.moba_prefill, moba.prefill);
  moba.decode = mode_of(config.moba_decode, moba.decode);
  model.moba = moba;
  check_moba_config(model);
  return moba;
}

WeightFormat weight_format(const ServerConfig& config) {
  if (config.weights == "f32") return WeightFormat::kFloat32;
  return config.weights == "int8" ? WeightFormat::kInt8 : WeightFormat::kOriginal;
}

PoolMemory pool_memory_on_device(const ServerConfig& config, const DeviceMemory& memory,
                                 uint64_t step_bytes) {
  const auto allowed = static_cast<uint64_t>(config.gpu_memory_utilization *
                                             static_cast<double>(memory.total_bytes));
  const uint64_t taken = memory.total_bytes - memory.free_bytes + step_bytes;
  if (taken >= allowed) {
    throw std::runtime_error("--gpu-memory-utilization: " + std::to_string(allowed) + " of " +
                             std::to_string(memory.total_bytes) +
                             " bytes leave nothing for the KV pool: " +
                             std::to_string(memory.total_bytes - memory.free_bytes) +
                             " are in use, a step needs " + std::to_string(step_bytes));
  }
  return {allowed - taken, 1.0};
}

ServingPlan make_serving_plan(const ServerConfig& config, const ModelConfig& model,
                              const PoolMemory& memory, const SamplingDefaults& sampling) {
  ServingPlan plan;
  plan.moba = choose_moba(config, model);
  plan.is_trained_for_moba = model.moba.has_value();
  plan.kv = {.num_layers = model.num_layers,
             .num_blocks = 1,
             .num_kv_heads = model.num_kv_heads,
             .block_size = plan.moba.block_size,
             .head_dim = model.head_dim,
             .num_stages = plan.moba.schedule.num_stages,
             .dtype = kv_dtype(config),
             .digest = plan.moba.digest};
  const int64_t wanted_len =
      config.max_model_len > 0 ? config.max_model_len : model.max_position_embeddings;
  const int64_t num_blocks = choose_num_blocks(config, plan.kv, wanted_len, memory);
  plan.kv.num_blocks = static_cast<int32_t>(num_blocks);
  plan.kv_bytes = num_blocks * KvStorage::bytes_per_block(plan.kv);
  if (config.max_step_tokens < config.max_num_seqs) {
    throw std::runtime_error("--max-step-tokens: " + std::to_string(config.max_step_tokens) +
                             " leaves no token for each of --max-num-seqs " +
                             std::to_string(config.max_num_seqs));
  }

  EngineConfig& engine = plan.engine;
  engine.moba = plan.moba;
  if (config.attention != "auto") {
    engine.moba.prefill = engine.moba.decode = mode_of(config.attention, AttentionMode::kMoba);
  }
  engine.num_layers = model.num_layers;
  engine.vocab_size = model.vocab_size;
  engine.max_model_len =
      choose_model_len(config, model, num_blocks * int64_t{plan.moba.block_size});
  engine.rope_switch_len = rope_frequencies(model, engine.max_model_len).switch_len;
  engine.num_blocks = plan.kv.num_blocks;
  engine.max_num_seqs = config.max_num_seqs;
  engine.max_step_tokens = config.max_step_tokens;
  engine.max_step_seconds = config.max_step_ms / 1000;
  engine.max_top_k = choose_max_top_k(plan.moba);
  engine.max_queued_requests = config.max_queued_requests;
  engine.max_queued_tokens = config.max_queued_tokens;
  engine.enable_prefix_cache = !config.no_prefix_cache;

  ServiceConfig& service = plan.service;
  service.model_name = model_name(config);
  service.accepts_any_model = config.accept_any_model;
  service.created = std::time(nullptr);
  service.max_model_len = engine.max_model_len;
  service.max_top_k = engine.max_top_k;
  if (config.request_timeout > 0) service.default_timeout_seconds = config.request_timeout;
  service.num_text_threads = config.text_threads;
  service.eos_token_ids = model.eos_token_ids;
  service.sampling = sampling;
  service.system_fingerprint = fingerprint(model, plan);
  plan.http = http_config(config);
  return plan;
}

}  // namespace quire
