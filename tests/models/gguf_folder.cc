#include "tests/models/gguf_folder.h"

#include <bit>
#include <map>

namespace quire::test {
namespace {

constexpr int32_t kTinyHeadDim = 8;

std::string name_in_gguf(const std::string& name) {
  static const std::map<std::string, std::string> kOfModel = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"}};
  static const std::map<std::string, std::string> kOfLayer = {
      {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
      {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  if (const auto it = kOfModel.find(name); it != kOfModel.end()) return it->second;
  const size_t number = std::string("model.layers.").size();
  const size_t dot = name.find('.', number);
  const size_t end = name.rfind('.');
  return "blk." + name.substr(number, dot - number) + "." +
         kOfLayer.at(name.substr(dot + 1, end - dot - 1)) + name.substr(end);
}

}  // namespace

NamedTensor as_gguf_tensor(const NamedTensor& tensor, int32_t head_dim) {
  NamedTensor result = tensor;
  result.name = name_in_gguf(tensor.name);
  const bool is_paired = result.name.find("attn_q.") != std::string::npos ||
                         result.name.find("attn_k.") != std::string::npos;
  if (!is_paired) return result;
  const auto columns = static_cast<size_t>(tensor.shape.size() == 1 ? 1 : tensor.shape[1]);
  const auto half = static_cast<size_t>(head_dim / 2);
  const auto num_heads = static_cast<size_t>(tensor.shape[0]) / (2 * half);
  size_t to = 0;
  for (size_t head = 0; head < num_heads; ++head) {
    for (size_t pair = 0; pair < half; ++pair) {
      for (size_t which = 0; which < 2; ++which) {
        const size_t from = (head * 2 * half + which * half + pair) * columns;
        for (size_t i = 0; i < columns; ++i) result.values[to++] = tensor.values[from + i];
      }
    }
  }
  return result;
}

std::string bytes_as(GgufType type, const std::vector<BFloat16>& values) {
  ByteWriter writer;
  for (const BFloat16 value : values) {
    if (type == GgufType::kBF16) writer.number(value.bits, 2);
    if (type == GgufType::kF16) writer.number(to_f16(to_float(value)), 2);
    if (type == GgufType::kF32) writer.number(std::bit_cast<uint32_t>(to_float(value)), 4);
  }
  return writer.bytes();
}

GgufBuilder tiny_gguf_metadata(std::string_view architecture) {
  const std::string prefix = std::string(architecture) + ".";
  GgufBuilder builder;
  builder.add_text("general.architecture", architecture)
      .add_u32("general.quantization_version", 2)
      .add_u32(prefix + "vocab_size", kTinyVocab)
      .add_u32(prefix + "context_length", 4096)
      .add_u32(prefix + "embedding_length", 16)
      .add_u32(prefix + "block_count", 2)
      .add_u32(prefix + "feed_forward_length", 40)
      .add_u32(prefix + "attention.head_count", 4)
      .add_u32(prefix + "attention.head_count_kv", 2)
      .add_u32(prefix + "attention.key_length", kTinyHeadDim)
      .add_u32(prefix + "attention.value_length", kTinyHeadDim)
      .add_f32(prefix + "attention.layer_norm_rms_epsilon", 1e-5f)
      .add_u32(prefix + "rope.dimension_count", kTinyHeadDim)
      .add_f32(prefix + "rope.freq_base", 10000.0f)
      .add_u32("tokenizer.ggml.eos_token_id", 2);
  return builder;
}

GgufBuilder tiny_gguf(GgufType type) {
  GgufBuilder builder = tiny_gguf_metadata();
  for (const NamedTensor& tensor : tiny_tensors()) {
    const NamedTensor stored = as_gguf_tensor(tensor, kTinyHeadDim);
    const GgufType stored_type = stored.shape.size() == 1 ? GgufType::kF32 : type;
    builder.add_tensor(stored.name, stored_type, stored.shape,
                       bytes_as(stored_type, stored.values));
  }
  return builder;
}

}  // namespace quire::test
