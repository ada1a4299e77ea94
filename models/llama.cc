#include "models/llama.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace quire {
namespace {

/// Weights of one layer, packed for the backend. Projections that read the same input are one
/// matrix: fewer, larger products.
struct LayerWeights {
  TensorView attention_norm;             // [hidden_size] bf16
  std::unique_ptr<PackedWeight> qkv;     // [(num_heads + 2 * num_kv_heads) * head_dim, hidden_size]
  std::unique_ptr<PackedWeight> output;  // [hidden_size, num_heads * head_dim]
  TensorView mlp_norm;                   // [hidden_size] bf16
  std::unique_ptr<PackedWeight> gate_up;  // [2 * intermediate_size, hidden_size]
  std::unique_ptr<PackedWeight> down;     // [hidden_size, intermediate_size]
};

/// Stands in for a Workspace and only counts: the need of a step is measured by taking the very
/// buffers that the step takes, so the two cannot drift apart.
class WorkspaceMeter {
 public:
  template <class T>
  TensorView take(std::initializer_list<int64_t> shape) {
    TensorView view = make_view(static_cast<T*>(nullptr), shape);
    used_bytes_ += Workspace::padded(static_cast<size_t>(view.num_elements()) * sizeof(T));
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    return view;
  }
  size_t mark() const { return used_bytes_; }
  void rewind(size_t mark) { used_bytes_ = mark; }
  size_t peak_bytes() const { return peak_bytes_; }

 private:
  size_t used_bytes_ = 0;
  size_t peak_bytes_ = 0;
};

/// Lives through all layers of a step.
struct StreamBuffers {
  template <class Space>
  StreamBuffers(const ModelConfig& c, int64_t num_tokens, Space& space)
      : residual(space.template take<float>({num_tokens, c.hidden_size})),
        delta(space.template take<float>({num_tokens, c.hidden_size})),
        normed(space.template take<BFloat16>({num_tokens, c.hidden_size})),
        cos(space.template take<float>({num_tokens, c.head_dim / 2})),
        sin(space.template take<float>({num_tokens, c.head_dim / 2})) {}

  TensorView residual;  // [num_tokens, hidden_size] f32
  TensorView delta;     // [num_tokens, hidden_size] f32, a sublayer's output, not yet added
  TensorView normed;    // [num_tokens, hidden_size] bf16, a sublayer's input
  TensorView cos, sin;  // [num_tokens, head_dim / 2] f32
};

struct AttentionBuffers {
  template <class Space>
  AttentionBuffers(const ModelConfig& c, int64_t num_tokens, int64_t max_selected, Space& space)
      : qkv(space.template take<float>(
            {num_tokens, (c.num_heads + 2 * c.num_kv_heads) * int64_t{c.head_dim}})),
        query(space.template take<BFloat16>({num_tokens, c.num_heads, c.head_dim})),
        key(space.template take<BFloat16>({num_tokens, c.num_kv_heads, c.head_dim})),
        selected(space.template take<int32_t>({num_tokens, c.num_heads, max_selected})),
        attended(space.template take<BFloat16>({num_tokens, c.num_heads, c.head_dim})) {}

  TensorView qkv;       // [num_tokens, (num_heads + 2 * num_kv_heads) * head_dim] f32
  TensorView query;     // [num_tokens, num_heads, head_dim] bf16, rotated
  TensorView key;       // [num_tokens, num_kv_heads, head_dim] bf16, rotated
  TensorView selected;  // [num_tokens, num_heads, max_selected] i32
  TensorView attended;  // [num_tokens, num_heads, head_dim] bf16
};

struct MlpBuffers {
  template <class Space>
  MlpBuffers(const ModelConfig& c, int64_t num_tokens, Space& space)
      : gate_up(space.template take<float>({num_tokens, 2 * int64_t{c.intermediate_size}})),
        activated(space.template take<BFloat16>({num_tokens, c.intermediate_size})) {}

  TensorView gate_up;    // [num_tokens, 2 * intermediate_size] f32
  TensorView activated;  // [num_tokens, intermediate_size] bf16
};

struct LogitBuffers {
  template <class Space>
  LogitBuffers(const ModelConfig& c, int64_t num_rows, Space& space)
      : logits(space.template take<float>({num_rows, c.vocab_size})),
        residual(space.template take<float>({num_rows, c.hidden_size})),
        delta(space.template take<float>({num_rows, c.hidden_size})),
        normed(space.template take<BFloat16>({num_rows, c.hidden_size})) {}

  TensorView logits;    // [num_rows, vocab_size] f32
  TensorView residual;  // [num_rows, hidden_size] f32
  TensorView delta;     // [num_rows, hidden_size] f32
  TensorView normed;    // [num_rows, hidden_size] bf16
};

/// Heads [first, first + count) of a fused projection's rows, as a strided view.
TensorView head_columns(const TensorView& fused, int64_t first, int64_t count, int64_t head_dim) {
  TensorView view =
      make_view(fused.data_as<float>() + first * head_dim, {fused.shape[0], count, head_dim});
  view.stride[0] = fused.stride[0];
  return view;
}

/// [rows, heads, head_dim] read as [rows, heads * head_dim].
TensorView merge_heads(const TensorView& view) {
  return make_view(view.data_as<BFloat16>(), {view.shape[0], view.shape[1] * view.shape[2]});
}

/// Sequences [first, first + count) of a batch. Row numbers are absolute, so tensors stay whole.
RaggedBatchView sub_batch(const RaggedBatchView& batch, int64_t first, int64_t count) {
  RaggedBatchView part = batch;
  part.cu_query_lens = batch.cu_query_lens.rows(first, count + 1);
  part.kv_lens = batch.kv_lens.rows(first, count);
  part.block_tables = batch.block_tables.rows(first, count);
  return part;
}

/// A matrix of the file.
struct MatrixName {
  std::string name;
  int64_t num_rows;
  int64_t num_columns;
};

class Llama final : public Model {
 public:
  Llama(ModelConfig config, std::unique_ptr<WeightStore> weights, WeightFormat format,
        Backend& backend, const LoadOptions& options)
      : config_(std::move(config)),
        weights_(std::move(weights)),
        format_(format),
        backend_(backend) {
    load_weights(options);
    const std::vector<double> frequencies = config_.inv_freq();
    inv_freq_ = upload(make_view(frequencies.data(), {config_.head_dim / 2}));
  }

  const ModelConfig& config() const override { return config_; }
  int64_t weight_bytes() const override { return weight_bytes_; }
  std::string weight_types() const override;
  size_t workspace_bytes(const StepLimits& limits) const override;
  TensorView forward(const ModelInput& input, std::span<const PagedKvView> layers,
                     Workspace& workspace) override;

 private:
  void load_weights(const LoadOptions& options);
  void load_embedding_and_head();
  void load_layer(int32_t layer);
  ConstTensorView weight(const std::string& name, std::initializer_list<int64_t> shape);
  TensorView upload(const ConstTensorView& host);
  TensorView upload_weight(const std::string& name, std::initializer_list<int64_t> shape);
  std::unique_ptr<PackedWeight> pack(std::initializer_list<MatrixName> names);
  std::unique_ptr<PackedWeight> pack_blocks(std::initializer_list<MatrixName> names);

  SelectionSchedule schedule() const {
    return config_.moba ? config_.moba->schedule : SelectionSchedule{};
  }
  void check_input(const ModelInput& input, std::span<const PagedKvView> layers) const;
  void run_attention(int32_t layer, const ModelInput& input, const PagedKvView& kv,
                     StreamBuffers& stream, Workspace& workspace);
  void attend(int32_t layer, const ModelInput& input, const PagedKvView& kv,
              AttentionBuffers& buffers);
  void run_mlp(int32_t layer, StreamBuffers& stream, Workspace& workspace);
  TensorView run_head(const ModelInput& input, const StreamBuffers& stream, Workspace& workspace);

  ModelConfig config_;
  std::unique_ptr<WeightStore> weights_;  // a packed weight may read the mapped file
  WeightFormat format_;
  Backend& backend_;
  int64_t weight_bytes_ = 0;
  std::set<std::string> kept_types_;     // of matrices that are multiplied as they are stored
  std::set<std::string> widened_types_;  // of those that became bf16
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  TensorView embedding_;                   // [vocab_size, hidden_size] bf16
  TensorView final_norm_;                  // [hidden_size] bf16
  TensorView inv_freq_;                    // [head_dim / 2] f64
  std::unique_ptr<PackedWeight> lm_head_;  // [vocab_size, hidden_size]
  std::vector<LayerWeights> layers_;
};

ConstTensorView Llama::weight(const std::string& name, std::initializer_list<int64_t> shape) {
  return weights_->get(name, DType::kBF16, shape);
}

TensorView Llama::upload(const ConstTensorView& host) {
  const auto size_bytes = static_cast<size_t>(host.num_elements() * element_bytes(host.dtype));
  buffers_.push_back(backend_.allocate(size_bytes));
  backend_.upload({static_cast<const std::byte*>(host.data), size_bytes}, buffers_.back()->data());
  return {buffers_.back()->data(), host.dtype, host.rank, host.shape, host.stride};
}

TensorView Llama::upload_weight(const std::string& name, std::initializer_list<int64_t> shape) {
  const ConstTensorView host = weight(name, shape);
  const TensorView view = upload(host);
  weights_->release(host);
  weight_bytes_ += static_cast<int64_t>(buffers_.back()->size_bytes());
  return view;
}

std::unique_ptr<PackedWeight> Llama::pack(std::initializer_list<MatrixName> names) {
  auto packed = pack_blocks(names);
  if (packed == nullptr) {
    std::vector<ConstTensorView> parts;
    for (const MatrixName& matrix : names) {
      parts.push_back(weight(matrix.name, {matrix.num_rows, matrix.num_columns}));
      widened_types_.emplace(weights_->stored_type(matrix.name));
    }
    packed = backend_.pack_weight(parts, format_);
    for (const ConstTensorView& part : parts) {
      if (!packed->reads_parts()) weights_->release(part);
    }
  }
  weight_bytes_ += packed->value_bytes();
  return packed;
}

/// Loads that take a while say how far they are, ten times.
void Llama::load_weights(const LoadOptions& options) {
  constexpr int64_t kLongLoadBytes = int64_t{1} << 30;
  constexpr int64_t kNumReports = 10;
  const auto log = [&options](const std::string& line) {
    if (options.log) options.log(line);
  };
  const bool is_long = weights_->stored_bytes() >= kLongLoadBytes;
  load_embedding_and_head();
  final_norm_ = upload_weight("model.norm.weight", {config_.hidden_size});
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    load_layer(layer);
    const int64_t done = layer + 1, all = config_.num_layers;
    if (is_long && done * kNumReports / all > layer * kNumReports / all) {
      log("weights: " + std::to_string(done) + " of " + std::to_string(all) + " layers");
    }
  }
  if (const std::string stored = weights_->rounded_dtypes(); !stored.empty()) {
    log("weights: stored as " + stored +
        ", rounded to bf16 (to nearest, ties to even): they lose precision");
  }
  weights_->finish_loading();
}

/// Null unless all of the matrices are stored in blocks, and the backend multiplies those.
std::unique_ptr<PackedWeight> Llama::pack_blocks(std::initializer_list<MatrixName> names) {
  if (format_ != WeightFormat::kOriginal || !backend_.keeps_blocks()) return nullptr;
  std::vector<BlockMatrix> parts;
  for (const MatrixName& matrix : names) {
    const auto part = weights_->blocks(matrix.name, {matrix.num_rows, matrix.num_columns});
    if (!part) return nullptr;
    parts.push_back(*part);
  }
  for (const BlockMatrix& part : parts) kept_types_.emplace(block_layout(part.format).name);
  auto packed = backend_.pack_blocks(parts);
  weights_->release_blocks();
  return packed;
}

std::string Llama::weight_types() const {
  if (format_ == WeightFormat::kInt8) return "int8";
  std::string text;
  const auto add = [&text](const std::string& type) { text += (text.empty() ? "" : ", ") + type; };
  for (const std::string& type : kept_types_) add(type);
  for (const std::string& type : widened_types_) add(type == "BF16" ? "bf16" : type + " as bf16");
  return text;
}

void Llama::load_embedding_and_head() {
  const int64_t vocab = config_.vocab_size;
  const int64_t hidden = config_.hidden_size;
  embedding_ = upload_weight("model.embed_tokens.weight", {vocab, hidden});
  const bool is_tied = config_.tie_word_embeddings;
  lm_head_ = pack({{is_tied ? "model.embed_tokens.weight" : "lm_head.weight", vocab, hidden}});
  // The same numbers in another layout are counted once.
  if (is_tied && format_ == WeightFormat::kOriginal && kept_types_.empty()) {
    weight_bytes_ -= lm_head_->value_bytes();
  }
}

void Llama::load_layer(int32_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const int64_t hidden = config_.hidden_size;
  const int64_t inner = config_.intermediate_size;
  const int64_t q_width = int64_t{config_.num_heads} * config_.head_dim;
  const int64_t kv_width = int64_t{config_.num_kv_heads} * config_.head_dim;
  LayerWeights& w = layers_.emplace_back();
  w.attention_norm = upload_weight(prefix + "input_layernorm.weight", {hidden});
  w.qkv = pack({{prefix + "self_attn.q_proj.weight", q_width, hidden},
                {prefix + "self_attn.k_proj.weight", kv_width, hidden},
                {prefix + "self_attn.v_proj.weight", kv_width, hidden}});
  w.output = pack({{prefix + "self_attn.o_proj.weight", hidden, q_width}});
  w.mlp_norm = upload_weight(prefix + "post_attention_layernorm.weight", {hidden});
  w.gate_up = pack({{prefix + "mlp.gate_proj.weight", inner, hidden},
                    {prefix + "mlp.up_proj.weight", inner, hidden}});
  w.down = pack({{prefix + "mlp.down_proj.weight", hidden, inner}});
}

size_t Llama::workspace_bytes(const StepLimits& limits) const {
  WorkspaceMeter meter;
  const StreamBuffers stream(config_, limits.max_tokens, meter);
  const size_t mark = meter.mark();
  const int64_t max_selected = schedule().max_selected(limits.max_top_k, INT64_MAX);
  const AttentionBuffers attention(config_, limits.max_tokens, max_selected, meter);
  meter.rewind(mark);
  const MlpBuffers mlp(config_, limits.max_tokens, meter);
  meter.rewind(mark);
  const LogitBuffers head(config_, limits.max_logit_rows, meter);
  return meter.peak_bytes();
}

TensorView Llama::forward(const ModelInput& input, std::span<const PagedKvView> layers,
                          Workspace& workspace) {
  check_input(input, layers);
  StreamBuffers stream(config_, input.tokens.shape[0], workspace);
  backend_.embedding({.table = embedding_, .tokens = input.tokens, .out = stream.residual});
  backend_.rope_table(
      {.positions = input.positions, .inv_freq = inv_freq_, .cos = stream.cos, .sin = stream.sin});
  const size_t mark = workspace.mark();
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    run_attention(layer, input, layers[static_cast<size_t>(layer)], stream, workspace);
    workspace.rewind(mark);
    run_mlp(layer, stream, workspace);
    workspace.rewind(mark);
  }
  return run_head(input, stream, workspace);
}

void Llama::check_input(const ModelInput& input, std::span<const PagedKvView> layers) const {
  QUIRE_CHECK(layers.size() == layers_.size())
      << "expected " << layers_.size() << " layers of cache, actual " << layers.size();
  const int64_t num_tokens = input.tokens.shape[0];
  QUIRE_CHECK(num_tokens >= 1 && input.positions.shape[0] == num_tokens &&
              input.slots.shape[0] == num_tokens)
      << "tokens " << num_tokens << ", positions " << input.positions.shape[0] << ", slots "
      << input.slots.shape[0];
  QUIRE_CHECK(input.num_moba_seqs >= 0 && input.num_moba_seqs <= input.batch.num_seqs())
      << input.num_moba_seqs << " MoBA sequences of " << input.batch.num_seqs();
  QUIRE_CHECK(input.max_selected >= 1) << "max_selected " << input.max_selected;
  for (const PagedKvView& kv : layers) {
    QUIRE_CHECK(kv.num_kv_heads() == config_.num_kv_heads && kv.head_dim() == config_.head_dim)
        << "cache of " << kv.num_kv_heads() << " heads of " << kv.head_dim() << ", expected "
        << config_.num_kv_heads << " of " << config_.head_dim;
  }
}

/// stream.delta = attention(norm(residual)). From the second layer on, the norm first adds the
/// previous layer's delta to the residual.
void Llama::run_attention(int32_t layer, const ModelInput& input, const PagedKvView& kv,
                          StreamBuffers& stream, Workspace& workspace) {
  const LayerWeights& w = layers_[static_cast<size_t>(layer)];
  AttentionBuffers buffers(config_, input.tokens.shape[0], input.max_selected, workspace);
  backend_.rms_norm({.x = stream.residual,
                     .delta = layer == 0 ? ConstTensorView{} : stream.delta,
                     .weight = w.attention_norm,
                     .epsilon = config_.rms_norm_eps,
                     .out = stream.normed});
  backend_.matmul({.a = stream.normed, .weight = w.qkv.get(), .out = buffers.qkv});

  const int64_t head_dim = config_.head_dim;
  const int64_t num_heads = config_.num_heads;
  const int64_t num_kv_heads = config_.num_kv_heads;
  const TensorView query = head_columns(buffers.qkv, 0, num_heads, head_dim);
  const TensorView key = head_columns(buffers.qkv, num_heads, num_kv_heads, head_dim);
  const TensorView value =
      head_columns(buffers.qkv, num_heads + num_kv_heads, num_kv_heads, head_dim);
  backend_.rope({.x = query, .cos = stream.cos, .sin = stream.sin, .out = buffers.query});
  backend_.rope({.x = key, .cos = stream.cos, .sin = stream.sin, .out = buffers.key});
  backend_.append_kv({.key = buffers.key, .value = value, .slots = input.slots, .kv = kv});
  // Before the gate: later tokens of this very step may select a block that it fills.
  if (input.sealing_blocks.num_elements() > 0 && input.sealing_blocks.rank == 1) {
    backend_.seal_blocks({.kv = kv, .block_ids = input.sealing_blocks});
  }
  for (int32_t stage = 0; stage < schedule().num_stages; ++stage) {
    const ConstTensorView& members = input.sealing_units[static_cast<size_t>(stage)];
    if (members.rank == 2 && members.shape[0] > 0) {
      backend_.seal_units({.kv = kv, .stage = stage, .members = members});
    }
  }
  attend(layer, input, kv, buffers);
  backend_.matmul(
      {.a = merge_heads(buffers.attended), .weight = w.output.get(), .out = stream.delta});
}

/// Full attention for the whole batch in layers that always use it; elsewhere MoBA for the first
/// num_moba_seqs sequences and full attention for the rest.
void Llama::attend(int32_t layer, const ModelInput& input, const PagedKvView& kv,
                   AttentionBuffers& buffers) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  const bool is_full_layer = config_.moba && config_.moba->is_full_attention_layer(layer);
  const int64_t num_seqs = input.batch.num_seqs();
  const int64_t num_moba = is_full_layer ? 0 : input.num_moba_seqs;
  if (num_moba > 0) {
    const RaggedBatchView batch = sub_batch(input.batch, 0, num_moba);
    backend_.moba_gate({.query = buffers.query,
                        .kv = kv,
                        .batch = batch,
                        .top_k = input.top_k,
                        .selected = buffers.selected,
                        .schedule = schedule()});
    backend_.moba_attention({.query = buffers.query,
                             .kv = kv,
                             .batch = batch,
                             .selected = buffers.selected,
                             .softmax_scale = scale,
                             .out = buffers.attended});
  }
  if (num_moba < num_seqs) {
    backend_.full_attention({.query = buffers.query,
                             .kv = kv,
                             .batch = sub_batch(input.batch, num_moba, num_seqs - num_moba),
                             .softmax_scale = scale,
                             .out = buffers.attended});
  }
}

/// stream.delta = mlp(norm(residual + delta)); the residual now holds that sum.
void Llama::run_mlp(int32_t layer, StreamBuffers& stream, Workspace& workspace) {
  const LayerWeights& w = layers_[static_cast<size_t>(layer)];
  MlpBuffers buffers(config_, stream.residual.shape[0], workspace);
  backend_.rms_norm({.x = stream.residual,
                     .delta = stream.delta,
                     .weight = w.mlp_norm,
                     .epsilon = config_.rms_norm_eps,
                     .out = stream.normed});
  backend_.matmul({.a = stream.normed, .weight = w.gate_up.get(), .out = buffers.gate_up});
  backend_.silu_mul({.gate_up = buffers.gate_up, .out = buffers.activated});
  backend_.matmul({.a = buffers.activated, .weight = w.down.get(), .out = stream.delta});
}

/// Final norm and head, on the wanted rows only: of a prefill chunk that is one row or none.
TensorView Llama::run_head(const ModelInput& input, const StreamBuffers& stream,
                           Workspace& workspace) {
  const int64_t num_rows = input.logit_rows.rank == 1 ? input.logit_rows.shape[0] : 0;
  LogitBuffers buffers(config_, num_rows, workspace);
  if (num_rows == 0) return buffers.logits;
  // Gathering rows is what the embedding op does; an f32 table is read back unchanged.
  backend_.embedding(
      {.table = stream.residual, .tokens = input.logit_rows, .out = buffers.residual});
  backend_.embedding({.table = stream.delta, .tokens = input.logit_rows, .out = buffers.delta});
  backend_.rms_norm({.x = buffers.residual,
                     .delta = buffers.delta,
                     .weight = final_norm_,
                     .epsilon = config_.rms_norm_eps,
                     .out = buffers.normed});
  backend_.matmul({.a = buffers.normed, .weight = lm_head_.get(), .out = buffers.logits});
  return buffers.logits;
}

}  // namespace

std::unique_ptr<Model> make_llama(ModelConfig config, std::unique_ptr<WeightStore> weights,
                                  WeightFormat format, Backend& backend,
                                  const LoadOptions& options) {
  return std::make_unique<Llama>(std::move(config), std::move(weights), format, backend, options);
}

}  // namespace quire
