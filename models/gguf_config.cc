#include "models/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/strict_json.h"
#include "models/weights/gguf_weights.h"
#include "models/weights/safetensors.h"

namespace quire {
namespace {

using Json = nlohmann::json;

struct KnownArchitecture {
  std::string_view in_gguf;
  std::string_view in_config_json;
};
constexpr KnownArchitecture kArchitectures[] = {
    {"llama", "LlamaForCausalLM"},
    {"qwen2", "Qwen2ForCausalLM"},
    {"qwen3", "Qwen3ForCausalLM"},
};

constexpr GgufMetadata::Range<int64_t> kAnyInt32{0, INT32_MAX};
constexpr int kMaxMobaDepth = 8;

/// What an architecture's own keys are called behind "llama.".
constexpr std::array<std::string_view, 19> kKnownKeys = {
    "context_length",           "vocab_size",
    "embedding_length",         "block_count",
    "feed_forward_length",      "expert_count",
    "expert_used_count",        "attention.head_count",
    "attention.head_count_kv",  "attention.key_length",
    "attention.value_length",   "attention.layer_norm_rms_epsilon",
    "attention.sliding_window", "rope.dimension_count",
    "rope.freq_base",           "rope.scaling.type",
    "rope.scaling.factor",      "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
};

class ConfigReader {
 public:
  explicit ConfigReader(const GgufContents& contents)
      : contents_(contents), metadata_(contents.metadata) {}

  ModelConfig read() {
    read_architecture();
    refuse_unknown_keys();
    read_dimensions();
    read_rope();
    read_attention();
    read_special_tokens();
    if (const auto moba = metadata_.optional_text("quire.moba")) {
      config_["moba"] = parse_json(*moba, metadata_.source_name() + ": quire.moba", kMaxMobaDepth);
    }
    ModelConfig config = parse_model_config(config_.dump(), metadata_.source_name());
    read_rope_divisors(config);
    return config;
  }

 private:
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }

  void read_architecture() {
    const std::string_view name = metadata_.text("general.architecture");
    std::string known;
    for (const KnownArchitecture& architecture : kArchitectures) {
      if (architecture.in_gguf == name) {
        prefix_ = std::string(name) + ".";
        config_["architectures"] = {architecture.in_config_json};
        return;
      }
      known += (known.empty() ? "" : ", ") + std::string(architecture.in_gguf);
    }
    metadata_.fail("general.architecture", "unknown architecture " +
                                               describe_json(std::string(name.substr(0, 100))) +
                                               "; known: " + known);
  }

  void refuse_unknown_keys() const {
    for (const auto& [name, value] : metadata_.values()) {
      if (!name.starts_with(prefix_)) continue;
      const std::string_view rest = std::string_view(name).substr(prefix_.size());
      if (std::find(kKnownKeys.begin(), kKnownKeys.end(), rest) == kKnownKeys.end()) {
        metadata_.fail(name, "is not supported and may change the mathematics");
      }
    }
    for (const std::string_view name : {"expert_count", "expert_used_count"}) {
      metadata_.optional_integer(key(name), {0, 0});
    }
    for (const auto& [name, tensor] : contents_.tensors) {
      if (!is_known_gguf_tensor(name)) {
        throw LoadError(metadata_.source_name() + ": tensor " + describe_json(name) +
                        " is not supported and may change the mathematics");
      }
    }
  }

  int64_t required(std::string_view name) const { return metadata_.integer(key(name), kAnyInt32); }

  void read_dimensions() {
    const auto num_tokens = metadata_.find("tokenizer.ggml.tokens");
    const int64_t vocab_size =
        metadata_.optional_integer(key("vocab_size"), kAnyInt32)
            .value_or(num_tokens == nullptr ? 0 : static_cast<int64_t>(num_tokens->count));
    const int64_t num_heads = required("attention.head_count");
    const int64_t hidden_size = required("embedding_length");
    config_["vocab_size"] = vocab_size;
    config_["hidden_size"] = hidden_size;
    config_["intermediate_size"] = required("feed_forward_length");
    config_["num_hidden_layers"] = required("block_count");
    config_["max_position_embeddings"] = required("context_length");
    config_["num_attention_heads"] = num_heads;
    config_["num_key_value_heads"] =
        metadata_.optional_integer(key("attention.head_count_kv"), kAnyInt32).value_or(num_heads);
    if (num_heads > 0) config_["head_dim"] = read_head_dim(hidden_size / num_heads);
    const auto epsilon = metadata_.optional_number(key("attention.layer_norm_rms_epsilon"));
    if (!epsilon) metadata_.fail(key("attention.layer_norm_rms_epsilon"), "missing");
    config_["rms_norm_eps"] = *epsilon;
    config_["tie_word_embeddings"] = !contents_.tensors.contains("output.weight");
  }

  /// Heads of values and rotations that cover less than a head are other mathematics.
  int64_t read_head_dim(int64_t split_evenly) const {
    const int64_t head_dim =
        metadata_.optional_integer(key("attention.key_length"), kAnyInt32).value_or(split_evenly);
    metadata_.optional_integer(key("attention.value_length"), {head_dim, head_dim});
    metadata_.optional_integer(key("rope.dimension_count"), {head_dim, head_dim});
    return head_dim;
  }

  void read_rope() {
    config_["rope_theta"] = metadata_.optional_number(key("rope.freq_base")).value_or(10000.0);
    const std::string type(metadata_.optional_text(key("rope.scaling.type")).value_or("none"));
    const auto factor = metadata_.optional_number(key("rope.scaling.factor"));
    const auto original =
        metadata_.optional_integer(key("rope.scaling.original_context_length"), kAnyInt32);
    if (type == "none") return;
    if (!factor) metadata_.fail(key("rope.scaling.factor"), "missing");
    Json scaling = {{"rope_type", type}, {"factor", *factor}};
    if (original) scaling["original_max_position_embeddings"] = *original;
    config_["rope_scaling"] = std::move(scaling);
  }

  void read_attention() {
    config_["hidden_act"] = "silu";
    // In which layers is not said.
    metadata_.optional_integer(key("attention.sliding_window"), {0, 0});
    // What an architecture always has needs no key in its config.json.
    const bool has_bias = contents_.tensors.contains("blk.0.attn_q.bias");
    if (has_bias && prefix_ != "qwen2.") config_["attention_bias"] = true;
  }

  void read_special_tokens() {
    const auto id = [&](const char* name) {
      return metadata_.optional_integer(std::string("tokenizer.ggml.") + name, kAnyInt32);
    };
    if (const auto bos = id("bos_token_id")) config_["bos_token_id"] = *bos;
    std::vector<int64_t> ends;
    for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
      const auto end = id(name);
      if (end && std::find(ends.begin(), ends.end(), *end) == ends.end()) ends.push_back(*end);
    }
    if (!ends.empty()) config_["eos_token_id"] = ends;
  }

  /// Llama 3's scaling is stored as its result: what each frequency is divided by.
  void read_rope_divisors(ModelConfig& config) const {
    const auto it = contents_.tensors.find("rope_freqs.weight");
    if (it == contents_.tensors.end()) return;
    const GgufTensor& tensor = it->second;
    const std::vector<int64_t> expected = {config.head_dim / 2};
    if (tensor.type != GgufType::kF32 || tensor.shape != expected) {
      throw LoadError(metadata_.source_name() + ": tensor 'rope_freqs.weight': expected F32 " +
                      describe_shape(expected) + ", actual " +
                      std::string(gguf_type_name(tensor.type)) + " " +
                      describe_shape(tensor.shape));
    }
    config.rope.divisors.resize(static_cast<size_t>(expected[0]));
    widen_gguf_row(tensor, 0, config.rope.divisors);
    for (const float divisor : config.rope.divisors) {
      if (!(divisor > 0) || !std::isfinite(divisor)) {
        throw LoadError(metadata_.source_name() + ": tensor 'rope_freqs.weight' holds " +
                        std::to_string(divisor));
      }
    }
  }

  const GgufContents& contents_;
  const GgufMetadata& metadata_;
  std::string prefix_;  // "llama."
  Json config_ = Json::object();
};

}  // namespace

ModelConfig parse_gguf_config(const GgufContents& contents) {
  return ConfigReader(contents).read();
}

}  // namespace quire
