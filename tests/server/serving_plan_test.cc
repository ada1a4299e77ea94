#include "server/serving_plan.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "server/banner.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;

/// 2 layers, 2 KV heads of 8, blocks of 16 tokens.
ModelConfig small_model() {
  ModelConfig model;
  model.architecture = "LlamaForCausalLM";
  model.vocab_size = 100;
  model.hidden_size = 32;
  model.num_layers = 2;
  model.num_heads = 4;
  model.num_kv_heads = 2;
  model.head_dim = 8;
  model.max_position_embeddings = 4096;
  model.eos_token_ids = {2};
  model.moba = MobaConfig{.block_size = 16, .top_k = 3};
  return model;
}

/// K and V of 16 tokens and one centroid, 2 heads of 8, two bytes each, in 2 layers.
constexpr uint64_t kBlockBytes = 2 * (2 * 16 + 1) * 2 * 8 * 2;

ServerConfig model_at(const std::string& path) {
  ServerConfig config;
  config.model = path;
  return config;
}

std::string complaint_about(const ServerConfig& config, uint64_t available_bytes,
                            const ModelConfig& model = small_model()) {
  try {
    make_serving_plan(config, model, available_bytes);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("the pool has as many blocks as its memory holds") {
  ServerConfig config;
  config.kv_cache_memory = 100 * kBlockBytes;
  CHECK(make_serving_plan(config, small_model(), 0).kv.num_blocks == 100);
  config.kv_cache_memory += kBlockBytes - 1;
  const ServingPlan plan = make_serving_plan(config, small_model(), 0);
  CHECK(plan.kv.num_blocks == 100);
  CHECK(plan.kv_bytes == static_cast<int64_t>(100 * kBlockBytes));
  CHECK(plan.engine.num_blocks == 100);
  CHECK(plan.kv.block_size == 16);
  CHECK(plan.kv.num_layers == 2);
  config.kv_cache_memory = 2 * kBlockBytes - 1;
  CHECK(make_serving_plan(config, small_model(), 0).kv.num_blocks == 1);
}

TEST_CASE("int8 keys and values take a byte each and two bytes of scale per token and head") {
  // 2 layers, 2 heads: K and V of 16 tokens of 8, their scales, one bf16 centroid.
  constexpr uint64_t kInt8Bytes = 2 * 2 * (2 * 16 * 8 + 2 * 16 * 2 + 8 * 2);
  ServerConfig config;
  config.kv_dtype = "int8";
  config.kv_cache_memory = 100 * kInt8Bytes;
  const ServingPlan plan = make_serving_plan(config, small_model(), 0);
  CHECK(plan.kv.dtype == DType::kI8);
  CHECK(plan.kv.num_blocks == 100);
  CHECK(plan.kv_bytes == static_cast<int64_t>(100 * kInt8Bytes));
  CHECK(make_serving_plan({}, small_model(), 0).kv.dtype == DType::kBF16);
}

TEST_CASE("on a device the pool takes what its share leaves after weights and steps") {
  ServerConfig config;
  config.gpu_memory_utilization = 0.75;
  const DeviceMemory memory{.free_bytes = 500 * kBlockBytes, .total_bytes = 1000 * kBlockBytes};
  const PoolMemory pool = pool_memory_on_device(config, memory, 50 * kBlockBytes);
  CHECK(pool.available_bytes == 200 * kBlockBytes);
  CHECK(make_serving_plan(config, small_model(), pool).kv.num_blocks == 200);
  // Asked for by number, the number counts.
  config.kv_cache_memory = 7 * kBlockBytes;
  CHECK(make_serving_plan(config, small_model(), pool).kv.num_blocks == 7);
}

TEST_CASE("a device without room for a pool is refused with the numbers") {
  ServerConfig config;
  config.gpu_memory_utilization = 0.5;
  const auto complaint = [&](uint64_t free_bytes, uint64_t step_bytes) -> std::string {
    try {
      pool_memory_on_device(config, {.free_bytes = free_bytes, .total_bytes = 1000}, step_bytes);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(complaint(600, 99) == "accepted");
  CHECK_THAT(complaint(600, 100), Contains("--gpu-memory-utilization") && Contains("500 of 1000") &&
                                      Contains("400 are in use") && Contains("needs 100"));
  CHECK_THAT(complaint(100, 0), Contains("900 are in use"));
}

TEST_CASE("unasked the pool takes half of the free memory and room for four full requests") {
  const ServerConfig config;
  CHECK(make_serving_plan(config, small_model(), 200 * kBlockBytes).kv.num_blocks == 100);
  CHECK(make_serving_plan(config, small_model(), uint64_t{1} << 50).kv.num_blocks == 4 * 4096 / 16);
  // Memory that cannot be found out is taken for a gibibyte.
  CHECK(make_serving_plan(config, small_model(), 0).kv.num_blocks == 4 * 4096 / 16);
  ServerConfig shorter;
  shorter.max_model_len = 100;  // 7 blocks
  CHECK(make_serving_plan(shorter, small_model(), uint64_t{1} << 50).kv.num_blocks == 28);
}

TEST_CASE("what is asked for is taken whatever is free") {
  ServerConfig config;
  config.kv_cache_memory = 5000 * kBlockBytes;
  CHECK(make_serving_plan(config, small_model(), kBlockBytes).kv.num_blocks == 5000);
  config.kv_cache_memory = UINT64_MAX;
  CHECK(make_serving_plan(config, small_model(), 0).kv.num_blocks == INT32_MAX);
}

TEST_CASE("the context is the model's or what the pool holds") {
  ServerConfig config;
  config.kv_cache_memory = 1000 * kBlockBytes;
  CHECK(make_serving_plan(config, small_model(), 0).engine.max_model_len == 4096);
  config.kv_cache_memory = 10 * kBlockBytes;
  const ServingPlan plan = make_serving_plan(config, small_model(), 0);
  CHECK(plan.engine.max_model_len == 160);
  CHECK(plan.service.max_model_len == 160);
  config.max_model_len = 160;
  CHECK(make_serving_plan(config, small_model(), 0).engine.max_model_len == 160);
}

TEST_CASE("there are two rope sets only where a sequence can outgrow the first") {
  ModelConfig model = small_model();
  ServerConfig config;
  config.max_model_len = 160;
  CHECK(make_serving_plan(config, model, 0).engine.rope_switch_len == 0);
  model.rope.type = RopeType::kLongRope;
  model.rope.rotary_dim = model.head_dim;
  model.rope.short_factor = {1, 1, 1, 1};
  model.rope.long_factor = {2, 2, 2, 2};
  model.rope.original_positions = 160;
  CHECK(make_serving_plan(config, model, 0).engine.rope_switch_len == 0);
  model.rope.original_positions = 159;
  CHECK(make_serving_plan(config, model, 0).engine.rope_switch_len == 159);
}

TEST_CASE("a pool that holds no full request is refused with both numbers") {
  ServerConfig config;
  config.kv_cache_memory = 10 * kBlockBytes;
  config.max_model_len = 161;
  CHECK_THAT(complaint_about(config, 0), Contains("--max-model-len") && Contains("161") &&
                                             Contains("160") && Contains("--kv-cache-memory"));
  config.kv_cache_memory = 0;
  CHECK_THAT(complaint_about(config, 20 * kBlockBytes), Contains("161") && Contains("160"));
}

TEST_CASE("a pool without a block is refused with the bytes of one") {
  ServerConfig config;
  config.kv_cache_memory = kBlockBytes - 1;
  CHECK_THAT(complaint_about(config, 0),
             Contains("--kv-cache-memory") && Contains(std::to_string(kBlockBytes)));
  CHECK_THAT(complaint_about(ServerConfig(), 2 * kBlockBytes - 2), Contains("hold no block"));
}

TEST_CASE("a context longer than the model's is refused") {
  ServerConfig config;
  config.max_model_len = 4097;
  CHECK_THAT(complaint_about(config, 0), Contains("--max-model-len") && Contains("4097") &&
                                             Contains("4096") && Contains("--beyond-model-len"));
  config.beyond_model_len = true;
  CHECK(complaint_about(config, 0) == "accepted");
  CHECK(make_serving_plan(config, small_model(), 0).engine.max_model_len == 4097);
}

TEST_CASE("a schedule overrides the model's, costs centroids and bounds top_k") {
  // Per stage one more bf16 centroid of each block.
  constexpr uint64_t kStagedBytes = kBlockBytes + 2 * 2 * 2 * 8 * 2;
  ServerConfig config;
  config.moba_schedule = "100:4,1000:32";
  config.kv_cache_memory = 100 * kStagedBytes;
  const ServingPlan plan = make_serving_plan(config, small_model(), 0);
  CHECK(plan.kv.num_stages == 2);
  CHECK(plan.kv.num_blocks == 100);
  CHECK(plan.moba.schedule == parse_selection_schedule("100:4,1000:32", ""));
  CHECK(plan.engine.moba.schedule == plan.moba.schedule);
  CHECK(plan.engine.max_top_k == 128);  // of 32 blocks each
  CHECK(plan.service.system_fingerprint !=
        make_serving_plan({}, small_model(), 0).service.system_fingerprint);
  ModelConfig model = small_model();
  model.moba->schedule = plan.moba.schedule;
  CHECK(choose_moba({}, model).schedule == plan.moba.schedule);
  ServerConfig none;
  none.moba_schedule = "none";
  CHECK(choose_moba(none, model).schedule == SelectionSchedule{});
  config.moba_schedule = "100:5";
  CHECK_THROWS_AS(make_serving_plan(config, small_model(), 0), LoadError);
}

TEST_CASE("a digest of bounds overrides the model's and costs two numbers for each of the mean's") {
  // 2 layers, 2 heads: one more bf16 number for each of 8 components.
  constexpr uint64_t kBoundsBytes = kBlockBytes + 2 * 2 * 8 * 2;
  ServerConfig config;
  config.kv_cache_memory = 100 * kBoundsBytes;
  const std::string usual = make_serving_plan(config, small_model(), 0).service.system_fingerprint;
  for (const std::string name : {"bounds", "cuboid-mean"}) {
    CAPTURE(name);
    config.moba_digest = name;
    const ServingPlan plan = make_serving_plan(config, small_model(), 0);
    CHECK(digest_name(plan.kv.digest) == name);
    CHECK(digest_name(plan.moba.digest) == name);
    CHECK(plan.kv.num_blocks == 100);
    CHECK(plan.kv_bytes == static_cast<int64_t>(100 * kBoundsBytes));
    CHECK(plan.service.system_fingerprint != usual);
  }
  ModelConfig model = small_model();
  model.moba->digest = BlockDigest::kBounds;
  CHECK(choose_moba({}, model).digest == BlockDigest::kBounds);
  ServerConfig mean;
  mean.moba_digest = "mean";
  CHECK(choose_moba(mean, model).digest == BlockDigest::kMean);
  config.moba_schedule = "100:4";
  CHECK_THAT(complaint_about(config, 0), Contains("moba.schedule") && Contains("cuboid-mean"));
}

TEST_CASE("a step must have a token for each sequence") {
  ServerConfig config;
  config.max_num_seqs = 65;
  config.max_step_tokens = 64;
  CHECK_THAT(complaint_about(config, 0), Contains("--max-step-tokens") && Contains("65"));
  config.max_step_tokens = 65;
  CHECK(complaint_about(config, 0) == "accepted");
}

TEST_CASE("weights that were not trained for blocks attend fully until somebody asks") {
  ModelConfig model = small_model();
  model.moba.reset();
  ServerConfig config;
  CHECK(choose_moba(config, model).prefill == AttentionMode::kFull);
  CHECK(choose_moba(config, model).decode == AttentionMode::kFull);
  config.moba_prefill = "moba";
  CHECK(choose_moba(config, model).prefill == AttentionMode::kMoba);
  CHECK(choose_moba(config, model).decode == AttentionMode::kFull);
}

TEST_CASE("settings override the model's blocks one by one") {
  ServerConfig config;
  CHECK(choose_moba(config, small_model()).block_size == 16);
  CHECK(choose_moba(config, small_model()).top_k == 3);
  CHECK(choose_moba(config, small_model()).decode == AttentionMode::kMoba);
  config.moba_top_k = 5;
  config.moba_decode = "full";
  config.has_full_layers = true;
  config.moba_full_layers = {1};
  const MobaConfig moba = choose_moba(config, small_model());
  CHECK(moba.block_size == 16);
  CHECK(moba.top_k == 5);
  CHECK(moba.prefill == AttentionMode::kMoba);
  CHECK(moba.decode == AttentionMode::kFull);
  CHECK(moba.full_attention_layers == std::vector<int32_t>{1});
}

TEST_CASE("the layers of full attention are named from either end, and must be there") {
  ModelConfig model = small_model();
  model.num_layers = 6;
  model.moba->full_attention_layers = {1};
  CHECK(choose_moba({}, model).full_attention_layers == std::vector<int32_t>{1});
  ServerConfig config;
  config.has_full_layers = true;
  CHECK(choose_moba(config, model).full_attention_layers.empty());
  config.moba_full_last = 2;
  CHECK(choose_moba(config, model).full_attention_layers == std::vector<int32_t>{4, 5});
  config.moba_full_layers = {5, 0, 0};
  CHECK(choose_moba(config, model).full_attention_layers == std::vector<int32_t>{0, 4, 5});
  config.moba_full_last = 6;
  CHECK(choose_moba(config, model).full_attention_layers.size() == 6);
  config.moba_full_last = 7;
  CHECK_THAT(complaint_about(config, 0, model),
             Contains("--moba-full-layers: last:7") && Contains("6 layers"));
  config.moba_full_last = 0;
  config.moba_full_layers = {6};
  CHECK_THAT(complaint_about(config, 0, model),
             Contains("--moba-full-layers: 6") && Contains("0 to 5"));
}

TEST_CASE("a number of blocks is that of decode too, unless decode has its own") {
  ModelConfig model = small_model();
  model.moba->decode_top_k = 9;
  CHECK(choose_moba({}, model).top_k == 3);
  CHECK(choose_moba({}, model).top_k_of_decode() == 9);
  ServerConfig config;
  config.moba_top_k = 5;
  CHECK(choose_moba(config, model).top_k_of_decode() == 5);
  config.moba_decode_top_k = 100;
  CHECK(choose_moba(config, model).top_k == 5);
  CHECK(choose_moba(config, model).top_k_of_decode() == 100);
  CHECK(make_serving_plan(config, model, 0).engine.max_top_k >= 100);
  config.moba_decode_top_k = 0;
  CHECK_THROWS_AS(choose_moba(config, model), LoadError);
}

TEST_CASE("the server's attention is the engine's and leaves the cache's shape alone") {
  ServerConfig config;
  config.attention = "full";
  const ServingPlan plan = make_serving_plan(config, small_model(), 0);
  CHECK(plan.engine.moba.prefill == AttentionMode::kFull);
  CHECK(plan.engine.moba.decode == AttentionMode::kFull);
  CHECK(plan.engine.moba.block_size == 16);
  config.attention = "moba";
  CHECK(make_serving_plan(config, small_model(), 0).engine.moba.decode == AttentionMode::kMoba);
  CHECK(make_serving_plan(ServerConfig(), small_model(), 0).engine.moba.prefill ==
        AttentionMode::kMoba);
}

TEST_CASE("a model is named by its flag or by its folder") {
  const auto name_of = [](const ServerConfig& config) {
    return make_serving_plan(config, small_model(), 0).service.model_name;
  };
  CHECK(name_of(model_at("/models/llama-8b")) == "llama-8b");
  CHECK(name_of(model_at("/models/llama-8b/")) == "llama-8b");
  CHECK(name_of(model_at("models/x/../llama-8b")) == "llama-8b");
  const std::string here = std::filesystem::current_path().filename().string();
  CHECK(name_of(model_at(".")) == here);
  CHECK(name_of(model_at("./")) == here);
  CHECK(name_of(model_at("..")) ==
        std::filesystem::current_path().parent_path().filename().string());
  ServerConfig named = model_at("/models/llama-8b");
  named.served_model_name = "mine";
  CHECK(name_of(named) == "mine");
}

TEST_CASE("limits of the settings reach the parts that keep them") {
  ServerConfig config;
  config.max_queued_requests = 5;
  config.max_queued_tokens = 6000;
  config.max_num_seqs = 7;
  config.max_step_tokens = 800;
  config.max_step_ms = 250;
  config.no_prefix_cache = true;
  config.max_body_size = 9000;
  config.request_timeout = 12.5;
  const ServingPlan plan = make_serving_plan(config, small_model(), 0);
  CHECK(plan.engine.max_queued_requests == 5);
  CHECK(plan.engine.max_queued_tokens == 6000);
  CHECK(plan.engine.max_num_seqs == 7);
  CHECK(plan.engine.max_step_tokens == 800);
  CHECK(plan.engine.max_step_seconds == 0.25);
  CHECK_FALSE(plan.engine.enable_prefix_cache);
  CHECK(plan.http.max_body_bytes == 9000);
  CHECK(plan.service.default_timeout_seconds == 12.5);
  CHECK(plan.service.eos_token_ids == std::vector<TokenId>{2});
  CHECK_FALSE(make_serving_plan({}, small_model(), 0).service.default_timeout_seconds);
}

TEST_CASE("what the model wants of requests that do not say reaches the service") {
  SamplingDefaults sampling;
  sampling.top_k = 20;
  sampling.max_new_tokens = 300;
  const ServiceConfig service = make_serving_plan({}, small_model(), 0, sampling).service;
  CHECK(service.sampling.top_k == 20);
  CHECK(service.sampling.max_new_tokens == 300);
  CHECK(service.sampling.temperature == 1.0);
}

TEST_CASE("the fingerprint changes with the attention and with nothing of the machine") {
  const std::string usual = make_serving_plan({}, small_model(), 0).service.system_fingerprint;
  CHECK_THAT(usual, Catch::Matchers::StartsWith("fp_"));
  CHECK(make_serving_plan({}, small_model(), 50 * kBlockBytes).service.system_fingerprint == usual);
  ServerConfig config;
  config.moba_top_k = 4;
  CHECK(make_serving_plan(config, small_model(), 0).service.system_fingerprint != usual);
  ServerConfig layers;
  layers.has_full_layers = true;
  layers.moba_full_last = 1;
  CHECK(make_serving_plan(layers, small_model(), 0).service.system_fingerprint != usual);
  ServerConfig full;
  full.attention = "full";
  CHECK(make_serving_plan(full, small_model(), 0).service.system_fingerprint != usual);
  ServerConfig int8;
  int8.kv_dtype = "int8";
  CHECK(make_serving_plan(int8, small_model(), 0).service.system_fingerprint != usual);
  CHECK(make_serving_plan({}, small_model(), 0, {.temperature = 0.5}).service.system_fingerprint !=
        usual);
}

TEST_CASE("the banner's numbers are readable") {
  CHECK(format_count(0) == "0");
  CHECK(format_count(999) == "999");
  CHECK(format_count(1000) == "1,000");
  CHECK(format_count(1048576) == "1,048,576");
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1536) == "1.50 KiB");
  CHECK(format_bytes(int64_t{3} << 29) == "1.50 GiB");
  CHECK(layers_text({}).empty());
  CHECK(layers_text({3}) == "3");
  CHECK(layers_text({0, 25, 26, 27}) == "0, 25-27");
  CHECK(layers_text({0, 1, 3, 5, 6}) == "0-1, 3, 5-6");
}

}  // namespace
}  // namespace quire
