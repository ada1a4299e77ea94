#include "models/weights/gguf_weights.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/check.h"
#include "kernels/quant/block_format.h"
#include "models/model_config.h"
#include "models/strict_json.h"
#include "models/weights/rounding.h"
#include "models/weights/safetensors.h"

namespace quire {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;  // Hugging Face, GGUF

constexpr NamePair kModelNames[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};
constexpr NamePair kLayerNames[] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.o_proj.bias", "attn_output.bias"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
};
constexpr std::string_view kRopeDivisors = "rope_freqs.weight";
constexpr std::string_view kLayerPrefix = "model.layers.";
constexpr std::string_view kBlockPrefix = "blk.";

/// "model.layers.3.mlp.up_proj.weight" behind the prefix, as "3" and the rest.
std::optional<NamePair> split_layer(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos ||
      name.substr(0, dot).find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  return NamePair{name.substr(0, dot), name.substr(dot + 1)};
}

/// Empty for a name that no GGUF has.
std::string gguf_name(std::string_view name) {
  for (const auto& [here, there] : kModelNames) {
    if (here == name) return std::string(there);
  }
  const auto parts = split_layer(name, kLayerPrefix);
  if (!parts) return "";
  for (const auto& [here, there] : kLayerNames) {
    if (here == parts->second) {
      return std::string(kBlockPrefix) + std::string(parts->first) + "." + std::string(there);
    }
  }
  return "";
}

std::optional<BlockFormat> block_format_of(GgufType type) {
  switch (type) {
    case GgufType::kQ8_0:
      return BlockFormat::kQ8_0;
    case GgufType::kQ4_0:
      return BlockFormat::kQ4_0;
    case GgufType::kQ4_K:
      return BlockFormat::kQ4_K;
    case GgufType::kQ5_K:
      return BlockFormat::kQ5_K;
    case GgufType::kQ6_K:
      return BlockFormat::kQ6_K;
    case GgufType::kF32:
    case GgufType::kF16:
    case GgufType::kBF16:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

bool is_known_gguf_tensor(std::string_view name) {
  if (name == kRopeDivisors) return true;
  const auto is_name = [](std::string_view wanted) {
    return [wanted](const NamePair& pair) { return pair.second == wanted; };
  };
  if (const auto parts = split_layer(name, kBlockPrefix)) {
    return std::any_of(std::begin(kLayerNames), std::end(kLayerNames), is_name(parts->second));
  }
  return std::any_of(std::begin(kModelNames), std::end(kModelNames), is_name(name));
}

void widen_gguf_row(const GgufTensor& tensor, int64_t row, std::span<float> out) {
  const auto index = static_cast<size_t>(row);
  if (const auto format = block_format_of(tensor.type)) {
    const auto bytes =
        static_cast<size_t>(block_row_bytes(*format, static_cast<int64_t>(out.size())));
    return widen_blocks(*format, tensor.data.subspan(index * bytes, bytes).data(), out);
  }
  const size_t width = tensor.type == GgufType::kF32 ? sizeof(float) : sizeof(BFloat16);
  const auto bytes = tensor.data.subspan(index * out.size() * width, out.size() * width);
  if (tensor.type == GgufType::kF32) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
  } else {
    const auto widen = tensor.type == GgufType::kF16 ? widen_f16 : widen_bf16;
    widen(bytes, out.data());
  }
}

GgufWeights::GgufWeights(const std::filesystem::path& path) : file_(std::in_place, path) {
  const GgufMetadata& metadata = file().metadata();
  if (metadata.text("general.architecture") != "llama") return;
  has_paired_rows_ = true;
  num_heads_ = metadata.integer("llama.attention.head_count", {1, INT32_MAX});
  num_kv_heads_ = metadata.optional_integer("llama.attention.head_count_kv", {1, INT32_MAX})
                      .value_or(num_heads_);
}

const GgufFile& GgufWeights::file() const {
  QUIRE_CHECK(file_.has_value()) << "a GGUF tensor after loading";
  return *file_;
}

int64_t GgufWeights::stored_bytes() const {
  int64_t num_bytes = 0;
  for (const auto& [name, tensor] : file().contents().tensors) {
    num_bytes += static_cast<int64_t>(tensor.data.size());
  }
  return num_bytes;
}

int64_t GgufWeights::stored_bytes(std::string_view name) const {
  return static_cast<int64_t>(find(name).tensor->data.size());
}

GgufWeights::Found GgufWeights::find(std::string_view name) const {
  Found found{gguf_name(name), nullptr};
  if (!found.name.empty()) found.tensor = file().find(found.name);
  return found;
}

bool GgufWeights::contains(std::string_view name) const { return find(name).tensor != nullptr; }

int64_t GgufWeights::stored_row(std::string_view name, int64_t row, int64_t num_rows) const {
  const bool is_query = name.find(".attn_q.") != std::string_view::npos;
  const bool is_key = name.find(".attn_k.") != std::string_view::npos;
  if (!has_paired_rows_ || !(is_query || is_key)) return row;
  const int64_t head_dim = num_rows / (is_query ? num_heads_ : num_kv_heads_);
  const int64_t half = head_dim / 2;
  const int64_t head = row / head_dim, within = row % head_dim;
  return head * head_dim + within % half * 2 + within / half;
}

GgufWeights::Found GgufWeights::require(std::string_view name,
                                        std::initializer_list<int64_t> shape) {
  Found found = find(name);
  if (found.tensor == nullptr) {
    throw LoadError(file().path().string() + ": missing tensor '" +
                    (found.name.empty() ? std::string(name) : found.name) + "', expected " +
                    describe_shape(shape));
  }
  const std::vector<int64_t>& actual = found.tensor->shape;
  if (!std::equal(shape.begin(), shape.end(), actual.begin(), actual.end())) {
    throw LoadError(file().path().string() + ": tensor '" + found.name + "': expected " +
                    describe_shape(shape) + ", actual " +
                    std::string(gguf_type_name(found.tensor->type)) + " " + describe_shape(actual));
  }
  used_.insert(found.name);
  return found;
}

void GgufWeights::finish_loading() {
  for (const auto& [name, tensor] : file().contents().tensors) {
    if (name == kRopeDivisors || used_.contains(name)) continue;  // those are the configuration's
    throw LoadError(file().path().string() + ": tensor " + describe_json(name) +
                    " has no place in this model and may change the mathematics");
  }
  file_.reset();
}

ConstTensorView GgufWeights::get(std::string_view name, DType dtype,
                                 std::initializer_list<int64_t> shape) {
  QUIRE_CHECK(dtype == DType::kBF16 || dtype == DType::kF32)
      << "a GGUF tensor as " << dtype_name(dtype);
  const auto [stored_name, tensor] = require(name, shape);
  return make_view(copy_of(stored_name, *tensor, dtype), dtype, shape);
}

void GgufWeights::release(const ConstTensorView& view) {
  copies_.remove_if([&](const auto& copy) { return copy.data() == view.data; });
}

std::optional<BlockMatrix> GgufWeights::blocks(std::string_view name,
                                               std::initializer_list<int64_t> shape) {
  const auto [stored_name, tensor] = require(name, shape);
  const auto format = block_format_of(tensor->type);
  if (!format || shape.size() != 2) return std::nullopt;
  BlockMatrix matrix{*format, tensor->data.data(), shape.begin()[0], shape.begin()[1]};
  if (stored_row(stored_name, 1, matrix.num_rows) == 1) return matrix;
  const auto row_bytes = static_cast<size_t>(block_row_bytes(*format, matrix.num_columns));
  std::vector<std::byte>& copy = reordered_.emplace_back(tensor->data.size());
  for (int64_t row = 0; row < matrix.num_rows; ++row) {
    std::memcpy(copy.data() + static_cast<size_t>(row) * row_bytes,
                matrix.row(stored_row(stored_name, row, matrix.num_rows)), row_bytes);
  }
  matrix.data = copy.data();
  return matrix;
}

std::string_view GgufWeights::stored_type(std::string_view name) const {
  return gguf_type_name(find(name).tensor->type);
}

/// Memory that `release` frees.
const void* GgufWeights::copy_of(std::string_view name, const GgufTensor& tensor, DType dtype) {
  const std::vector<int64_t>& shape = tensor.shape;
  const int64_t num_columns = shape.back();
  const int64_t num_rows = shape.size() == 1 ? 1 : shape.front();
  auto& copy =
      copies_.emplace_back(static_cast<size_t>(num_rows * num_columns * element_bytes(dtype)));
  std::vector<float> widened(static_cast<size_t>(num_columns));
  bool is_exact = true;
  for (int64_t row = 0; row < num_rows; ++row) {
    const bool is_vector = shape.size() == 1;
    widen_gguf_row(tensor, is_vector ? 0 : stored_row(name, row, num_rows), widened);
    for (int64_t i = 0; i < num_columns; ++i) {
      // Numbers of a vector go with the rows of the matrix that they are added to.
      const int64_t from = is_vector ? stored_row(name, i, num_columns) : i;
      const float exact = widened[static_cast<size_t>(from)];
      const auto to = static_cast<size_t>(row * num_columns + i);
      if (dtype == DType::kF32) {
        reinterpret_cast<float*>(copy.data())[to] = exact;
        continue;
      }
      const BFloat16 number = to_bfloat16(exact);
      is_exact = is_exact && to_float(number) == exact;
      reinterpret_cast<BFloat16*>(copy.data())[to] = number;
    }
  }
  if (!is_exact) rounded_types_.emplace(gguf_type_name(tensor.type));
  return copy.data();
}

}  // namespace quire
