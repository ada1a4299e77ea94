#include "models/llama.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/llama_weights.h"

namespace quire {
namespace {

/// Stands in for a Workspace and only counts: the need of a step is measured by taking the very
/// buffers that the step takes, so the two cannot drift apart.
class WorkspaceMeter {
 public:
  template <class T>
  TensorView take(std::initializer_list<int64_t> shape) {
    return take(dtype_of<T>(), shape);
  }
  TensorView take(DType dtype, std::initializer_list<int64_t> shape) {
    const TensorView view = make_view(static_cast<void*>(nullptr), dtype, shape);
    used_bytes_ +=
        Workspace::padded(static_cast<size_t>(view.num_elements() * element_bytes(dtype)));
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

/// Lives through all layers of a step. Here and below `activation` is what the rows of products are
/// rounded to: bf16, or f32 with weights in f32.
struct StreamBuffers {
  template <class Space>
  StreamBuffers(const ModelConfig& c, DType activation, int64_t num_tokens, Space& space)
      : residual(space.template take<float>({num_tokens, c.hidden_size})),
        delta(space.template take<float>({num_tokens, c.hidden_size})),
        normed(space.take(activation, {num_tokens, c.hidden_size})),
        cos(space.template take<float>({num_tokens, c.rope.rotary_dim / 2})),
        sin(space.template take<float>({num_tokens, c.rope.rotary_dim / 2})) {}

  TensorView residual;  // [num_tokens, hidden_size] f32
  TensorView delta;     // [num_tokens, hidden_size] f32, a sublayer's output, not yet added
  TensorView normed;    // [num_tokens, hidden_size] activation, a sublayer's input
  TensorView cos, sin;  // [num_tokens, rotary_dim / 2] f32
};

struct AttentionBuffers {
  template <class Space>
  AttentionBuffers(const ModelConfig& c, DType activation, int64_t num_tokens, int64_t max_selected,
                   Space& space)
      : qkv(space.template take<float>(
            {num_tokens, (c.num_heads + 2 * c.num_kv_heads) * int64_t{c.head_dim}})),
        query(space.take(activation, {num_tokens, c.num_heads, c.head_dim})),
        key(space.take(activation, {num_tokens, c.num_kv_heads, c.head_dim})),
        selected(space.template take<int32_t>({num_tokens, c.num_heads, max_selected})),
        attended(space.take(activation, {num_tokens, c.num_heads, c.head_dim})) {}

  TensorView qkv;       // [num_tokens, (num_heads + 2 * num_kv_heads) * head_dim] f32
  TensorView query;     // [num_tokens, num_heads, head_dim] activation, rotated
  TensorView key;       // [num_tokens, num_kv_heads, head_dim] activation, rotated
  TensorView selected;  // [num_tokens, num_heads, max_selected] i32
  TensorView attended;  // [num_tokens, num_heads, head_dim] activation
};

struct MlpBuffers {
  template <class Space>
  MlpBuffers(const ModelConfig& c, DType activation, int64_t num_tokens, Space& space)
      : gate_up(space.template take<float>({num_tokens, 2 * int64_t{c.intermediate_size}})),
        activated(space.take(activation, {num_tokens, c.intermediate_size})) {}

  TensorView gate_up;    // [num_tokens, 2 * intermediate_size] f32
  TensorView activated;  // [num_tokens, intermediate_size] activation
};

struct LogitBuffers {
  template <class Space>
  LogitBuffers(const ModelConfig& c, DType activation, int64_t num_rows, Space& space)
      : logits(space.template take<float>({num_rows, c.vocab_size})),
        residual(space.template take<float>({num_rows, c.hidden_size})),
        delta(space.template take<float>({num_rows, c.hidden_size})),
        normed(space.take(activation, {num_rows, c.hidden_size})) {}

  TensorView logits;    // [num_rows, vocab_size] f32
  TensorView residual;  // [num_rows, hidden_size] f32
  TensorView delta;     // [num_rows, hidden_size] f32
  TensorView normed;    // [num_rows, hidden_size] activation
};

/// Heads [first, first + count) of a fused projection's rows, as a strided view.
TensorView head_columns(const TensorView& fused, int64_t first, int64_t count, int64_t head_dim) {
  TensorView view =
      make_view(fused.data_as<float>() + first * head_dim, {fused.shape[0], count, head_dim});
  view.stride[0] = fused.stride[0];
  return view;
}

/// The columns [first, first + count) of a table.
TensorView columns(const TensorView& table, int64_t first, int64_t count) {
  TensorView view = make_view(table.data_as<float>() + first, {table.shape[0], count});
  view.stride[0] = table.stride[0];
  return view;
}

/// [rows, heads, head_dim] read as [rows, heads * head_dim].
TensorView merge_heads(const TensorView& view) {
  return make_view(view.data, view.dtype, {view.shape[0], view.shape[1] * view.shape[2]});
}

/// Sequences [first, first + count) of a batch. Row numbers are absolute, so tensors stay whole.
RaggedBatchView sub_batch(const RaggedBatchView& batch, int64_t first, int64_t count) {
  RaggedBatchView part = batch;
  part.cu_query_lens = batch.cu_query_lens.rows(first, count + 1);
  part.kv_lens = batch.kv_lens.rows(first, count);
  part.block_tables = batch.block_tables.rows(first, count);
  return part;
}

class Llama final : public Model {
 public:
  Llama(ModelConfig config, std::unique_ptr<WeightStore> weights, WeightFormat format,
        Backend& backend, const LoadOptions& options)
      : config_(std::move(config)),
        backend_(backend),
        activation_(activation_dtype(format)),
        weights_(config_, std::move(weights), format, backend, options) {
    const RopeFrequencies rope =
        rope_frequencies(config_, options.max_model_len > 0 ? options.max_model_len
                                                            : config_.max_position_embeddings);
    rope_switch_len_ = rope.switch_len;
    attention_factor_ = rope.attention_factor;
    if (rope.switch_len > 0 && options.log) {
      options.log("rope: a sequence has the short factors of longrope up to " +
                  std::to_string(rope.switch_len) +
                  " tokens, and the long ones beyond; one that grows past it is computed again");
    }
    std::vector<double> sets = rope.inv_freq;
    sets.insert(sets.end(), rope.long_inv_freq.begin(), rope.long_inv_freq.end());
    inv_freq_buffer_ = backend_.allocate(sets.size() * sizeof(double));
    backend_.upload(std::as_bytes(std::span(sets)), inv_freq_buffer_->data());
    const auto num_pairs = static_cast<int64_t>(rope.inv_freq.size());
    inv_freq_ = make_view(static_cast<const double*>(inv_freq_buffer_->data()),
                          {static_cast<int64_t>(sets.size()) / num_pairs, num_pairs});
  }

  const ModelConfig& config() const override { return config_; }
  int64_t weight_bytes() const override { return weights_.num_bytes(); }
  std::string weight_types() const override { return weights_.types(); }
  size_t workspace_bytes(const StepLimits& limits) const override;
  int32_t rope_switch_len() const override { return rope_switch_len_; }
  TensorView forward(const ModelInput& input, std::span<const PagedKvView> layers,
                     Workspace& workspace) override;

 private:
  SelectionSchedule schedule() const {
    return config_.moba ? config_.moba->schedule : SelectionSchedule{};
  }
  void check_input(const ModelInput& input, std::span<const PagedKvView> layers) const;
  void multiply(const ConstTensorView& a, const PackedWeight& weight, const ConstTensorView& bias,
                const TensorView& out);
  void run_attention(int32_t layer, const ModelInput& input, const PagedKvView& kv,
                     StreamBuffers& stream, Workspace& workspace);
  void attend(int32_t layer, const ModelInput& input, const PagedKvView& kv,
              AttentionBuffers& buffers);
  void run_mlp(int32_t layer, StreamBuffers& stream, Workspace& workspace);
  TensorView run_head(const ModelInput& input, const StreamBuffers& stream, Workspace& workspace);

  ModelConfig config_;
  Backend& backend_;
  DType activation_;  // of the rows of products, and of queries, keys and values
  LlamaWeights weights_;
  std::unique_ptr<DeviceBuffer> inv_freq_buffer_;
  ConstTensorView inv_freq_;     // [num_sets, rotary_dim / 2] f64
  int32_t rope_switch_len_ = 0;  // tokens; 0: one set
  double attention_factor_ = 1;  // of cos and sin
};

size_t Llama::workspace_bytes(const StepLimits& limits) const {
  WorkspaceMeter meter;
  const StreamBuffers stream(config_, activation_, limits.max_tokens, meter);
  const size_t mark = meter.mark();
  const int64_t max_selected = schedule().max_selected(limits.max_top_k, INT64_MAX);
  const AttentionBuffers attention(config_, activation_, limits.max_tokens, max_selected, meter);
  meter.rewind(mark);
  const MlpBuffers mlp(config_, activation_, limits.max_tokens, meter);
  meter.rewind(mark);
  const LogitBuffers head(config_, activation_, limits.max_logit_rows, meter);
  return meter.peak_bytes();
}

TensorView Llama::forward(const ModelInput& input, std::span<const PagedKvView> layers,
                          Workspace& workspace) {
  check_input(input, layers);
  StreamBuffers stream(config_, activation_, input.tokens.shape[0], workspace);
  backend_.embedding(
      {.table = weights_.embedding(), .tokens = input.tokens, .out = stream.residual});
  backend_.rope_table({.positions = input.positions,
                       .inv_freq = inv_freq_,
                       .sets = input.rope_sets,
                       .scale = attention_factor_,
                       .cos = stream.cos,
                       .sin = stream.sin});
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
  QUIRE_CHECK(layers.size() == weights_.num_layers())
      << "expected " << weights_.num_layers() << " layers of cache, actual " << layers.size();
  const int64_t num_tokens = input.tokens.shape[0];
  QUIRE_CHECK(num_tokens >= 1 && input.positions.shape[0] == num_tokens &&
              input.slots.shape[0] == num_tokens)
      << "tokens " << num_tokens << ", positions " << input.positions.shape[0] << ", slots "
      << input.slots.shape[0];
  QUIRE_CHECK(rope_switch_len_ == 0 || input.rope_sets.data != nullptr)
      << "no rope sets for a model that has two";
  QUIRE_CHECK(input.num_moba_seqs >= 0 && input.num_moba_seqs <= input.batch.num_seqs())
      << input.num_moba_seqs << " MoBA sequences of " << input.batch.num_seqs();
  QUIRE_CHECK(input.max_selected >= 1) << "max_selected " << input.max_selected;
  for (const PagedKvView& kv : layers) {
    QUIRE_CHECK(kv.num_kv_heads() == config_.num_kv_heads && kv.head_dim() == config_.head_dim)
        << "cache of " << kv.num_kv_heads() << " heads of " << kv.head_dim() << ", expected "
        << config_.num_kv_heads << " of " << config_.head_dim;
  }
}

/// out = a * weight^T, and the bias where there is one.
void Llama::multiply(const ConstTensorView& a, const PackedWeight& weight,
                     const ConstTensorView& bias, const TensorView& out) {
  backend_.matmul({.a = a, .weight = &weight, .out = out});
  if (bias.data != nullptr) backend_.add_bias({.x = out, .bias = bias});
}

/// stream.delta = attention(norm(residual)). From the second layer on, the norm first adds the
/// previous layer's delta to the residual.
void Llama::run_attention(int32_t layer, const ModelInput& input, const PagedKvView& kv,
                          StreamBuffers& stream, Workspace& workspace) {
  const LlamaLayer& w = weights_.layer(layer);
  AttentionBuffers buffers(config_, activation_, input.tokens.shape[0], input.max_selected,
                           workspace);
  backend_.rms_norm({.x = stream.residual,
                     .delta = layer == 0 ? ConstTensorView{} : stream.delta,
                     .weight = w.attention_norm,
                     .epsilon = config_.rms_norm_eps,
                     .out = stream.normed});
  multiply(stream.normed, *w.qkv, w.qkv_bias, buffers.qkv);

  const int64_t head_dim = config_.head_dim;
  const int64_t num_heads = config_.num_heads;
  const int64_t num_kv_heads = config_.num_kv_heads;
  const TensorView query = head_columns(buffers.qkv, 0, num_heads, head_dim);
  const TensorView key = head_columns(buffers.qkv, num_heads, num_kv_heads, head_dim);
  const TensorView value =
      head_columns(buffers.qkv, num_heads + num_kv_heads, num_kv_heads, head_dim);
  if (config_.has_head_norm) {
    backend_.head_norm({.x = query, .weight = w.query_norm, .epsilon = config_.rms_norm_eps});
    backend_.head_norm({.x = key, .weight = w.key_norm, .epsilon = config_.rms_norm_eps});
  }
  const int64_t num_pairs = config_.is_rotated_layer(layer) ? stream.cos.shape[1] : 0;
  const TensorView cos = columns(stream.cos, 0, num_pairs);
  const TensorView sin = columns(stream.sin, 0, num_pairs);
  backend_.rope({.x = query, .cos = cos, .sin = sin, .out = buffers.query});
  backend_.rope({.x = key, .cos = cos, .sin = sin, .out = buffers.key});
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
  multiply(merge_heads(buffers.attended), *w.output, w.output_bias, stream.delta);
}

/// Full attention for the whole batch in layers that always use it or see a window only; elsewhere
/// MoBA for the first num_moba_seqs sequences and full attention for the rest.
void Llama::attend(int32_t layer, const ModelInput& input, const PagedKvView& kv,
                   AttentionBuffers& buffers) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  const int32_t window = config_.window_of(layer);
  const bool is_full_layer =
      window > 0 || (config_.moba && config_.moba->is_full_attention_layer(layer));
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
                             .out = buffers.attended,
                             .window = window});
  }
}

/// stream.delta = mlp(norm(residual + delta)); the residual now holds that sum.
void Llama::run_mlp(int32_t layer, StreamBuffers& stream, Workspace& workspace) {
  const LlamaLayer& w = weights_.layer(layer);
  MlpBuffers buffers(config_, activation_, stream.residual.shape[0], workspace);
  backend_.rms_norm({.x = stream.residual,
                     .delta = stream.delta,
                     .weight = w.mlp_norm,
                     .epsilon = config_.rms_norm_eps,
                     .out = stream.normed});
  multiply(stream.normed, *w.gate_up, w.gate_up_bias, buffers.gate_up);
  backend_.silu_mul({.gate_up = buffers.gate_up, .out = buffers.activated});
  multiply(buffers.activated, *w.down, w.down_bias, stream.delta);
}

/// Final norm and head, on the wanted rows only: of a prefill chunk that is one row or none.
TensorView Llama::run_head(const ModelInput& input, const StreamBuffers& stream,
                           Workspace& workspace) {
  const int64_t num_rows = input.logit_rows.rank == 1 ? input.logit_rows.shape[0] : 0;
  LogitBuffers buffers(config_, activation_, num_rows, workspace);
  if (num_rows == 0) return buffers.logits;
  // Gathering rows is what the embedding op does; an f32 table is read back unchanged.
  backend_.embedding(
      {.table = stream.residual, .tokens = input.logit_rows, .out = buffers.residual});
  backend_.embedding({.table = stream.delta, .tokens = input.logit_rows, .out = buffers.delta});
  backend_.rms_norm({.x = buffers.residual,
                     .delta = buffers.delta,
                     .weight = weights_.final_norm(),
                     .epsilon = config_.rms_norm_eps,
                     .out = buffers.normed});
  backend_.matmul({.a = buffers.normed, .weight = &weights_.lm_head(), .out = buffers.logits});
  return buffers.logits;
}

}  // namespace

std::unique_ptr<Model> make_llama(ModelConfig config, std::unique_ptr<WeightStore> weights,
                                  WeightFormat format, Backend& backend,
                                  const LoadOptions& options) {
  return std::make_unique<Llama>(std::move(config), std::move(weights), format, backend, options);
}

}  // namespace quire
