#include "tests/models/model_folder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <stdexcept>

namespace quire::test {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "quire-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TemporaryFolder::write(std::string_view file_name, std::string_view content) const {
  std::ofstream file(path_ / file_name, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!file) throw std::runtime_error("cannot write " + std::string(file_name));
}

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i) & 0xFF));
  return bytes.append(header).append(data);
}

uint16_t to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const float magnitude = std::abs(value);
  if (magnitude == 0) return sign;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  exponent = std::max(exponent, -13);
  const float steps = std::ldexp(magnitude, 11 - exponent);  // of the last digit, below 2^11
  if (exponent > 16 || steps != std::floor(steps)) {
    throw std::invalid_argument(std::to_string(value) + " is no float16");
  }
  return static_cast<uint16_t>(sign + static_cast<uint32_t>(steps) +
                               (static_cast<uint32_t>(exponent + 13) << 10));
}

std::string safetensors_bytes(const std::vector<NamedTensor>& tensors, std::string_view dtype) {
  std::string header = R"({"__metadata__": {"format": "pt"})";
  std::string data;
  for (const NamedTensor& tensor : tensors) {
    std::string shape;
    for (const int64_t extent : tensor.shape) {
      shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    }
    const size_t begin = data.size();
    for (const BFloat16 value : tensor.values) {
      const uint32_t bits = dtype == "F32"   ? uint32_t{value.bits} << 16
                            : dtype == "F16" ? to_f16(to_float(value))
                                             : value.bits;
      for (int byte = 0; byte < (dtype == "F32" ? 4 : 2); ++byte) {
        data.push_back(static_cast<char>(bits >> (8 * byte) & 0xFF));
      }
    }
    header += ", \"" + tensor.name + R"(": {"dtype": ")" + std::string(dtype) + R"(", "shape": [)" +
              shape + R"(], "data_offsets": [)" + std::to_string(begin) + ", " +
              std::to_string(data.size()) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return safetensors_bytes(header, data);
}

std::string tiny_config(std::string_view more_keys) {
  return R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 24, "hidden_size": 16,
    "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": true,
    "eos_token_id": 2)" +
         std::string(more_keys) + "}";
}

std::vector<NamedTensor> tiny_tensors() {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<NamedTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    size_t count = 1;
    for (const int64_t extent : shape) count *= static_cast<size_t>(extent);
    std::vector<BFloat16> values(count);
    for (BFloat16& value : values) {
      value = to_bfloat16(shape.size() == 1 ? 1.0f + 0.1f * normal(random) : normal(random));
    }
    tensors.push_back({name, std::move(shape), std::move(values)});
  };
  add("model.embed_tokens.weight", {kTinyVocab, 16});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {16});
    add(prefix + "self_attn.q_proj.weight", {32, 16});
    add(prefix + "self_attn.k_proj.weight", {16, 16});
    add(prefix + "self_attn.v_proj.weight", {16, 16});
    add(prefix + "self_attn.o_proj.weight", {16, 32});
    add(prefix + "post_attention_layernorm.weight", {16});
    add(prefix + "mlp.gate_proj.weight", {40, 16});
    add(prefix + "mlp.up_proj.weight", {40, 16});
    add(prefix + "mlp.down_proj.weight", {16, 40});
  }
  add("model.norm.weight", {16});
  return tensors;
}

}  // namespace quire::test
