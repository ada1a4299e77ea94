#include "models/llama_weights.h"

#include <cstring>
#include <utility>

namespace quire {

ConstTensorView LlamaWeights::get(const std::string& name, std::initializer_list<int64_t> shape) {
  return store_->get(name, dtype_, shape);
}

TensorView LlamaWeights::upload(const ConstTensorView& host) {
  const auto size_bytes = static_cast<size_t>(host.num_elements() * element_bytes(host.dtype));
  buffers_.push_back(backend_.allocate(size_bytes));
  backend_.upload({static_cast<const std::byte*>(host.data), size_bytes}, buffers_.back()->data());
  return {buffers_.back()->data(), host.dtype, host.rank, host.shape, host.stride};
}

TensorView LlamaWeights::upload(const std::string& name, std::initializer_list<int64_t> shape) {
  const ConstTensorView host = get(name, shape);
  const TensorView view = upload(host);
  store_->release(host);
  num_bytes_ += static_cast<int64_t>(buffers_.back()->size_bytes());
  report_read(name);
  return view;
}

/// Vectors one behind the other, as the rows of a packed product are.
TensorView LlamaWeights::upload_joined(std::initializer_list<Vector> parts) {
  std::vector<std::byte> joined;
  int64_t width = 0;
  for (const Vector& part : parts) {
    const ConstTensorView host = get(part.name, {part.width});
    const auto* bytes = static_cast<const std::byte*>(host.data);
    joined.insert(joined.end(), bytes, bytes + part.width * element_bytes(dtype_));
    width += part.width;
    store_->release(host);
  }
  const TensorView view =
      upload(make_view(static_cast<const void*>(joined.data()), dtype_, {width}));
  num_bytes_ += static_cast<int64_t>(buffers_.back()->size_bytes());
  for (const Vector& part : parts) report_read(part.name);
  return view;
}

std::unique_ptr<PackedWeight> LlamaWeights::pack(std::initializer_list<Matrix> matrices) {
  auto packed = pack_blocks(matrices);
  if (packed == nullptr) packed = pack_fp8(matrices);
  if (packed == nullptr) {
    std::vector<ConstTensorView> parts;
    for (const Matrix& matrix : matrices) {
      parts.push_back(get(matrix.name, {matrix.num_rows, matrix.num_columns}));
      widened_types_.emplace(store_->stored_type(matrix.name));
    }
    packed = backend_.pack_weight(parts, format_);
    for (const ConstTensorView& part : parts) {
      if (!packed->reads_parts()) store_->release(part);
    }
  }
  num_bytes_ += packed->value_bytes();
  for (const Matrix& matrix : matrices) report_read(matrix.name);
  return packed;
}

/// A tied embedding is read twice, and counts once.
void LlamaWeights::report_read(const std::string& name) {
  if (!progress_ || !read_names_.insert(name).second) return;
  read_bytes_ += store_->stored_bytes(name);
  progress_(read_bytes_, store_->stored_bytes());
}

/// Null unless all of the matrices are stored in blocks, and the backend multiplies those.
std::unique_ptr<PackedWeight> LlamaWeights::pack_blocks(std::initializer_list<Matrix> matrices) {
  if (format_ != WeightFormat::kOriginal || !backend_.keeps_blocks()) return nullptr;
  std::vector<BlockMatrix> parts;
  for (const Matrix& matrix : matrices) {
    const auto part = store_->blocks(matrix.name, {matrix.num_rows, matrix.num_columns});
    if (!part) return nullptr;
    parts.push_back(*part);
  }
  for (const BlockMatrix& part : parts) kept_types_.emplace(block_layout(part.format).name);
  auto packed = backend_.pack_blocks(parts);
  store_->release_blocks();
  return packed;
}

/// Null unless it is wanted, all of the matrices are stored in FP8, and the backend takes their
/// scales.
std::unique_ptr<PackedWeight> LlamaWeights::pack_fp8(std::initializer_list<Matrix> matrices) {
  if (!keep_fp8_) return nullptr;
  std::vector<Fp8Matrix> parts;
  for (const Matrix& matrix : matrices) {
    const auto part = store_->fp8(matrix.name, {matrix.num_rows, matrix.num_columns});
    if (part) parts.push_back(*part);
  }
  auto packed = parts.size() == matrices.size() ? backend_.pack_fp8(parts) : nullptr;
  if (packed != nullptr) kept_types_.emplace(kFp8Type);
  store_->release_fp8();
  return packed;
}

std::string LlamaWeights::types() const {
  if (format_ == WeightFormat::kInt8) return "int8";
  std::string text;
  const auto add = [&text](const std::string& type) { text += (text.empty() ? "" : ", ") + type; };
  for (const std::string& type : kept_types_) add(type);
  const std::string own(dtype_name(dtype_));
  for (const std::string& type : widened_types_) {
    add(type == (dtype_ == DType::kF32 ? "F32" : "BF16") ? own : type + " as " + own);
  }
  if (is_fp8()) text += " (activations are not quantised)";
  return text;
}

/// Loads that take a while say how far they are, ten times.
LlamaWeights::LlamaWeights(const ModelConfig& config, std::unique_ptr<WeightStore> store,
                           WeightFormat format, Backend& backend, const LoadOptions& options)
    : config_(config),
      store_(std::move(store)),
      format_(format),
      dtype_(activation_dtype(format)),
      keep_fp8_(options.keep_fp8),
      progress_(options.progress),
      backend_(backend) {
  if (format_ == WeightFormat::kFloat32 && !backend_.has_f32_attention()) {
    throw LoadError("backend " + std::string(backend_.name()) +
                    " rounds to bf16; weights in f32 are for the reference backend");
  }
  if (keep_fp8_ && !backend_.keeps_fp8()) {
    throw LoadError("backend " + std::string(backend_.name()) +
                    " has no products of FP8; such weights are bf16 there");
  }
  constexpr int64_t kLongLoadBytes = int64_t{1} << 30;
  constexpr int64_t kNumReports = 10;
  const auto log = [&options](const std::string& line) {
    if (options.log) options.log(line);
  };
  const bool is_long = store_->stored_bytes() >= kLongLoadBytes;
  load_embedding_and_head();
  final_norm_ = upload("model.norm.weight", {config_.hidden_size});
  for (int32_t index = 0; index < config_.num_layers; ++index) {
    load_layer(index);
    const int64_t done = index + 1, all = config_.num_layers;
    if (is_long && done * kNumReports / all > index * kNumReports / all) {
      log("weights: " + std::to_string(done) + " of " + std::to_string(all) + " layers");
    }
  }
  if (keep_fp8_ && !kept_types_.contains(kFp8Type)) {
    throw LoadError("no matrix of the model is stored in FP8 with scales that the backend takes");
  }
  if (widened_types_.contains(kFp8Type)) {
    log("weights: stored as F8_E4M3, bf16 here: each number times its scale, rounded once (to "
        "nearest, ties to even)");
  }
  if (const std::string stored = store_->rounded_dtypes(); !stored.empty()) {
    log("weights: stored as " + stored +
        ", rounded to bf16 (to nearest, ties to even): they lose precision");
  }
  if (progress_) progress_(store_->stored_bytes(), store_->stored_bytes());
  progress_ = nullptr;
  store_->finish_loading();
}

/// Whether a tied model stores a head all the same, of other numbers than the embedding's. Those
/// count then, as they do for transformers.
bool LlamaWeights::has_head_of_its_own() {
  if (!store_->contains("lm_head.weight")) return false;
  const int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
  const ConstTensorView head = get("lm_head.weight", {vocab, hidden});
  const ConstTensorView embedding = get("model.embed_tokens.weight", {vocab, hidden});
  const bool differs =
      std::memcmp(head.data, embedding.data,
                  static_cast<size_t>(vocab * hidden * element_bytes(dtype_))) != 0;
  store_->release(head);
  store_->release(embedding);
  return differs;
}

void LlamaWeights::load_embedding_and_head() {
  const int64_t vocab = config_.vocab_size;
  const int64_t hidden = config_.hidden_size;
  embedding_ = upload("model.embed_tokens.weight", {vocab, hidden});
  const bool is_tied = config_.tie_word_embeddings && !has_head_of_its_own();
  lm_head_ = pack({{is_tied ? "model.embed_tokens.weight" : "lm_head.weight", vocab, hidden}});
  // The same numbers in another layout are counted once.
  if (is_tied && format_ != WeightFormat::kInt8 && kept_types_.empty()) {
    num_bytes_ -= lm_head_->value_bytes();
  }
}

void LlamaWeights::load_layer(int32_t index) {
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  LlamaLayer& layer = layers_.emplace_back();
  layer.attention_norm = upload(prefix + "input_layernorm.weight", {config_.hidden_size});
  load_attention(prefix + "self_attn.", layer);
  layer.mlp_norm = upload(prefix + "post_attention_layernorm.weight", {config_.hidden_size});
  load_mlp(prefix + "mlp.", layer);
}

void LlamaWeights::load_attention(const std::string& prefix, LlamaLayer& layer) {
  const int64_t hidden = config_.hidden_size;
  const int64_t q_width = int64_t{config_.num_heads} * config_.head_dim;
  const int64_t kv_width = int64_t{config_.num_kv_heads} * config_.head_dim;
  if (config_.has_fused_projections) {
    layer.qkv = pack({{prefix + "qkv_proj.weight", q_width + 2 * kv_width, hidden}});
  } else {
    layer.qkv = pack({{prefix + "q_proj.weight", q_width, hidden},
                      {prefix + "k_proj.weight", kv_width, hidden},
                      {prefix + "v_proj.weight", kv_width, hidden}});
  }
  layer.output = pack({{prefix + "o_proj.weight", hidden, q_width}});
  if (config_.has_qkv_bias) {
    layer.qkv_bias = upload_joined({{prefix + "q_proj.bias", q_width},
                                    {prefix + "k_proj.bias", kv_width},
                                    {prefix + "v_proj.bias", kv_width}});
  }
  if (config_.has_output_bias) layer.output_bias = upload(prefix + "o_proj.bias", {hidden});
  if (config_.has_head_norm) {
    layer.query_norm = upload(prefix + "q_norm.weight", {config_.head_dim});
    layer.key_norm = upload(prefix + "k_norm.weight", {config_.head_dim});
  }
}

void LlamaWeights::load_mlp(const std::string& prefix, LlamaLayer& layer) {
  const int64_t hidden = config_.hidden_size;
  const int64_t inner = config_.intermediate_size;
  if (config_.has_fused_projections) {
    layer.gate_up = pack({{prefix + "gate_up_proj.weight", 2 * inner, hidden}});
  } else {
    layer.gate_up = pack(
        {{prefix + "gate_proj.weight", inner, hidden}, {prefix + "up_proj.weight", inner, hidden}});
  }
  layer.down = pack({{prefix + "down_proj.weight", hidden, inner}});
  if (config_.has_mlp_bias) {
    layer.gate_up_bias =
        upload_joined({{prefix + "gate_proj.bias", inner}, {prefix + "up_proj.bias", inner}});
    layer.down_bias = upload(prefix + "down_proj.bias", {hidden});
  }
}

}  // namespace quire
