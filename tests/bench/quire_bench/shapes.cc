#include "tests/bench/quire_bench/shapes.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "tests/bench/quire_bench/random_table.h"

namespace quire::bench {
namespace {

constexpr int32_t kMaxPositions = 1 << 24;  // beyond every depth that is measured

struct NamedShape {
  std::string_view name;
  std::string_view numbers;
  int32_t block_size;
  bool ties_embeddings;
};

constexpr NamedShape kNamedShapes[] = {
    {"tiny", "8,256,8,2,64,704,4096", 128, true},
    {"llama-3.2-1b", "16,2048,32,8,64,8192,128256", 512, true},
    {"llama-3.1-8b", "32,4096,32,8,128,14336,128256", 512, false},
};
constexpr int32_t kTopK = 8;
constexpr int32_t kOwnBlockSize = 128;  // of a shape given as numbers

std::vector<int32_t> parse_numbers(std::string_view shape) {
  std::vector<int32_t> numbers;
  std::istringstream in{std::string(shape)};
  for (std::string word; std::getline(in, word, ',');) {
    size_t end = 0;
    int32_t number = 0;
    try {
      number = std::stoi(word, &end);
    } catch (const std::exception&) {
      return {};
    }
    if (end != word.size() || number <= 0) return {};
    numbers.push_back(number);
  }
  return numbers;
}

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;  // [width]: a norm; else [outputs, inputs]

  int64_t num_elements() const {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return count;
  }
};

std::vector<Tensor> tensors_of(const ModelConfig& c) {
  const int64_t hidden = c.hidden_size, inner = c.intermediate_size, vocab = c.vocab_size;
  const int64_t q_width = int64_t{c.num_heads} * c.head_dim;
  const int64_t kv_width = int64_t{c.num_kv_heads} * c.head_dim;
  std::vector<Tensor> tensors = {{"model.embed_tokens.weight", {vocab, hidden}}};
  if (!c.tie_word_embeddings) tensors.push_back({"lm_head.weight", {vocab, hidden}});
  for (int32_t layer = 0; layer < c.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    tensors.push_back({prefix + "input_layernorm.weight", {hidden}});
    tensors.push_back({prefix + "self_attn.q_proj.weight", {q_width, hidden}});
    tensors.push_back({prefix + "self_attn.k_proj.weight", {kv_width, hidden}});
    tensors.push_back({prefix + "self_attn.v_proj.weight", {kv_width, hidden}});
    tensors.push_back({prefix + "self_attn.o_proj.weight", {hidden, q_width}});
    tensors.push_back({prefix + "post_attention_layernorm.weight", {hidden}});
    tensors.push_back({prefix + "mlp.gate_proj.weight", {inner, hidden}});
    tensors.push_back({prefix + "mlp.up_proj.weight", {inner, hidden}});
    tensors.push_back({prefix + "mlp.down_proj.weight", {hidden, inner}});
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  return tensors;
}

std::string safetensors_header(const std::vector<Tensor>& tensors) {
  nlohmann::json header;
  int64_t begin = 0;
  for (const Tensor& tensor : tensors) {
    const int64_t end = begin + 2 * tensor.num_elements();
    header[tensor.name] = {
        {"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 63) / 64 * 64, ' ');
  return text;
}

void write_values(std::ofstream& file, const Tensor& tensor, RandomTable& table) {
  const auto write = [&](std::span<const BFloat16> values) {
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size_bytes()));
  };
  if (tensor.shape.size() == 1) {
    write(std::vector<BFloat16>(static_cast<size_t>(tensor.num_elements()), to_bfloat16(1.0f)));
    return;
  }
  table.set_scale(1.0f / std::sqrt(static_cast<float>(tensor.shape[1])));
  table.hand_out(tensor.num_elements(), write);
}

}  // namespace

ModelConfig shape_config(std::string_view shape) {
  ModelConfig config;
  config.tie_word_embeddings = true;
  config.moba = MobaConfig{.block_size = kOwnBlockSize, .top_k = kTopK};
  std::string known;
  std::string_view numbers_text = shape;
  for (const NamedShape& named : kNamedShapes) {
    known += std::string(named.name) + ", ";
    if (named.name != shape) continue;
    numbers_text = named.numbers;
    config.moba->block_size = named.block_size;
    config.tie_word_embeddings = named.ties_embeddings;
  }
  const std::vector<int32_t> numbers = parse_numbers(numbers_text);
  if (numbers.size() != 7) {
    throw std::invalid_argument("--shape " + std::string(shape) + ": expected bundled, " + known +
                                "or LAYERS,DIM,HEADS,KV_HEADS,HEAD_DIM,FFN,VOCAB");
  }
  config.architecture = "LlamaForCausalLM";
  config.num_layers = numbers[0];
  config.hidden_size = numbers[1];
  config.num_heads = numbers[2];
  config.num_kv_heads = numbers[3];
  config.head_dim = numbers[4];
  config.intermediate_size = numbers[5];
  config.vocab_size = numbers[6];
  config.rope.theta = 500000.0;
  config.max_position_embeddings = kMaxPositions;
  return config;
}

std::string config_json(const ModelConfig& config) {
  nlohmann::json root = {{"architectures", {config.architecture}},
                         {"vocab_size", config.vocab_size},
                         {"hidden_size", config.hidden_size},
                         {"intermediate_size", config.intermediate_size},
                         {"num_hidden_layers", config.num_layers},
                         {"num_attention_heads", config.num_heads},
                         {"num_key_value_heads", config.num_kv_heads},
                         {"head_dim", config.head_dim},
                         {"hidden_act", "silu"},
                         {"rms_norm_eps", 1e-5},
                         {"rope_theta", config.rope.theta},
                         {"max_position_embeddings", config.max_position_embeddings},
                         {"tie_word_embeddings", config.tie_word_embeddings},
                         {"eos_token_id", 0}};
  if (config.moba) {
    root["moba"] = {{"block_size", config.moba->block_size},
                    {"top_k", config.moba->top_k},
                    {"full_attention_layers", config.moba->full_attention_layers}};
  }
  return root.dump(1);
}

int64_t random_model_bytes(const ModelConfig& config) {
  int64_t num_elements = 0;
  for (const Tensor& tensor : tensors_of(config)) num_elements += tensor.num_elements();
  return 2 * num_elements;
}

void write_random_model(const ModelConfig& config, uint32_t seed,
                        const std::filesystem::path& folder) {
  std::ofstream(folder / "config.json") << config_json(config);
  const std::vector<Tensor> tensors = tensors_of(config);
  const std::string header = safetensors_header(tensors);
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  const uint64_t header_bytes = header.size();
  for (int i = 0; i < 8; ++i) file.put(static_cast<char>(header_bytes >> (8 * i) & 0xFF));
  file << header;
  // The file's order is the header's: nlohmann sorts keys, the offsets say where each tensor is.
  RandomTable table(seed);
  for (const Tensor& tensor : tensors) write_values(file, tensor, table);
  file.close();
  if (!file) throw std::runtime_error("cannot write " + (folder / "model.safetensors").string());
}

}  // namespace quire::bench
