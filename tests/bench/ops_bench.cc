// The ops of one layer, alone: FLOP/s or bytes/s of the cpu backend at the shapes of the bundled
// model and of a Llama of one billion. QUIRE_BENCH_THREADS sets the threads (default: every CPU
// that the process may use). FLOPs and bytes are counted as quire-bench counts them.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_storage.h"
#include "kernels/backend_registry.h"
#include "kernels/cpu/int8_screen.h"
#include "tests/bench/quire_bench/op_meter.h"
#include "tests/bench/quire_bench/random_table.h"
#include "tests/bench/quire_bench/shapes.h"

namespace quire::bench {
namespace {

constexpr int32_t kTokens = 512;  // rows of a prefill chunk

MeteredBackend& backend() {
  static MeteredBackend metered = [] {
    const char* threads = std::getenv("QUIRE_BENCH_THREADS");
    return MeteredBackend(
        make_backend("cpu", {.num_threads = threads == nullptr ? 0 : std::atoi(threads)}));
  }();
  return metered;
}

/// Keeps device memory for as long as a benchmark runs.
class Tensors {
 public:
  template <class T>
  TensorView upload(const std::vector<T>& values, std::initializer_list<int64_t> shape) {
    const TensorView view = allocate<T>(shape);
    backend().upload(std::as_bytes(std::span(values)), view.data);
    return view;
  }
  template <class T>
  TensorView allocate(std::initializer_list<int64_t> shape) {
    TensorView view = make_view(static_cast<T*>(nullptr), shape);
    buffers_.push_back(backend().allocate(static_cast<size_t>(view.num_elements()) * sizeof(T)));
    view.data = buffers_.back()->data();
    return view;
  }
  TensorView random_bf16(std::initializer_list<int64_t> shape) {
    const TensorView view = allocate<BFloat16>(shape);
    fill(view);
    return view;
  }
  static void fill(const TensorView& view) {
    auto* to = view.data_as<BFloat16>();
    RandomTable(1).hand_out(view.num_elements(), [&](std::span<const BFloat16> values) {
      backend().upload(std::as_bytes(values), to);
      to += values.size();
    });
  }

 private:
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
};

/// One sequence's chunk of `num_tokens` behind `depth` tokens of cache, in one layer.
struct LayerCase {
  LayerCase(const ModelConfig& c, int32_t depth, int32_t num_tokens)
      : num_blocks((depth + num_tokens - 1) / c.moba->block_size + 1),
        storage(backend(), {.num_layers = 1,
                            .num_blocks = num_blocks,
                            .num_kv_heads = c.num_kv_heads,
                            .block_size = c.moba->block_size,
                            .head_dim = c.head_dim}),
        kv(storage.layers().front()) {
    std::vector<int32_t> ids(static_cast<size_t>(num_blocks));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    Tensors::fill(kv.k);
    Tensors::fill(kv.v);
    block_ids = tensors.upload(ids, {num_blocks});
    backend().seal_blocks({.kv = kv, .block_ids = block_ids});
    batch.cu_query_lens = tensors.upload<int32_t>({0, num_tokens}, {2});
    batch.kv_lens = tensors.upload<int32_t>({depth + num_tokens}, {1});
    batch.block_tables = tensors.upload(ids, {1, num_blocks});
    batch.max_query_len = num_tokens;
    batch.max_kv_len = depth + num_tokens;
    query = tensors.random_bf16({num_tokens, c.num_heads, c.head_dim});
    top_k = tensors.upload<int32_t>({c.moba->top_k}, {1});
    selected = tensors.allocate<int32_t>({num_tokens, c.num_heads, c.moba->top_k});
    out = tensors.allocate<BFloat16>({num_tokens, c.num_heads, c.head_dim});
  }

  MobaGateParams gate() const {
    return {.query = query, .kv = kv, .batch = batch, .top_k = top_k, .selected = selected};
  }
  MobaAttentionParams moba_attention() const {
    return {.query = query,
            .kv = kv,
            .batch = batch,
            .selected = selected,
            .softmax_scale = 0.125f,
            .out = out};
  }
  FullAttentionParams full_attention() const {
    return {.query = query, .kv = kv, .batch = batch, .softmax_scale = 0.125f, .out = out};
  }

  int32_t num_blocks;
  KvStorage storage;
  PagedKvView kv;
  Tensors tensors;
  RaggedBatchView batch;
  TensorView block_ids, query, top_k, selected, out;
};

using Rate = benchmark::Counter;

/// Runs `op` once while it is counted, then as often as the library wants.
void run(benchmark::State& state, const std::function<void()>& op) {
  backend().start_counting();
  op();
  const OpWork work = backend().stop_counting();
  for (auto _ : state) op();
  if (work.flops() > 0) {
    state.counters["FLOP/s"] = Rate(work.flops(), Rate::kIsIterationInvariantRate);
  }
  if (work.bytes() > 0) {
    state.counters["B/s"] = Rate(work.bytes(), Rate::kIsIterationInvariantRate);
  }
}

void matmul(benchmark::State& state, const ModelConfig& c) {
  const int64_t rows = state.range(0), n = 2 * int64_t{c.intermediate_size}, k = c.hidden_size;
  Tensors tensors;
  const ConstTensorView values = tensors.random_bf16({n, k});
  const auto weight = backend().pack_weight({&values, 1}, WeightFormat::kOriginal);
  const MatmulParams params{.a = tensors.random_bf16({rows, k}),
                            .weight = weight.get(),
                            .out = tensors.allocate<float>({rows, n})};
  run(state, [&] { backend().matmul(params); });
}

void moba_gate(benchmark::State& state, const ModelConfig& c) {
  const LayerCase layer(c, static_cast<int32_t>(state.range(1)),
                        static_cast<int32_t>(state.range(0)));
  run(state, [&] { backend().moba_gate(layer.gate()); });
}

/// The same without screening by 8-bit integers.
void moba_gate_unscreened(benchmark::State& state, const ModelConfig& c) {
  cpu::use_int8_screen(false);
  moba_gate(state, c);
  cpu::use_int8_screen(true);
}

void moba_attention(benchmark::State& state, const ModelConfig& c) {
  const LayerCase layer(c, static_cast<int32_t>(state.range(1)),
                        static_cast<int32_t>(state.range(0)));
  backend().moba_gate(layer.gate());
  run(state, [&] { backend().moba_attention(layer.moba_attention()); });
}

void full_attention(benchmark::State& state, const ModelConfig& c) {
  const LayerCase layer(c, static_cast<int32_t>(state.range(1)),
                        static_cast<int32_t>(state.range(0)));
  run(state, [&] { backend().full_attention(layer.full_attention()); });
}

void rms_norm(benchmark::State& state, const ModelConfig& c) {
  const int64_t rows = state.range(0), width = c.hidden_size;
  Tensors tensors;
  const std::vector<float> ones(static_cast<size_t>(rows * width), 1.0f);
  const RmsNormParams params{.x = tensors.upload(ones, {rows, width}),
                             .delta = {},
                             .weight = tensors.random_bf16({width}),
                             .epsilon = c.rms_norm_eps,
                             .out = tensors.allocate<BFloat16>({rows, width})};
  run(state, [&] { backend().rms_norm(params); });
  // What is read and written: x as f32, the result as bf16.
  state.counters["B/s"] =
      Rate(static_cast<double>(rows * width * 6), Rate::kIsIterationInvariantRate);
}

void seal_blocks(benchmark::State& state, const ModelConfig& c) {
  const LayerCase layer(c, static_cast<int32_t>(state.range(0)), 1);
  run(state, [&] { backend().seal_blocks({.kv = layer.kv, .block_ids = layer.block_ids}); });
  // Every key is read once.
  state.counters["B/s"] =
      Rate(static_cast<double>(layer.kv.k.num_elements()) * 2, Rate::kIsIterationInvariantRate);
}

void register_shape(const std::string& name, const ModelConfig& c) {
  using Op = void (*)(benchmark::State&, const ModelConfig&);
  const auto add = [&](const std::string& op_name, Op op) {
    auto* added = benchmark::RegisterBenchmark((op_name + "/" + name).c_str(),
                                               [op, c](benchmark::State& state) { op(state, c); });
    return added->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  add("matmul", matmul)->ArgName("rows")->Arg(1)->Arg(kTokens);
  add("rms_norm", rms_norm)->ArgName("rows")->Arg(1)->Arg(kTokens);
  for (const auto& [op_name, op] : {std::pair<const char*, Op>{"moba_gate_deep", moba_gate},
                                    {"moba_gate_deep_unscreened", moba_gate_unscreened}}) {
    add(op_name, op)
        ->ArgNames({"rows", "depth"})
        ->Args({kTokens, 1 << 17})
        ->Args({1 << 13, 1 << 18});
  }
  add("seal_blocks", seal_blocks)->ArgName("tokens")->Arg(1 << 14);
  for (const auto& [op_name, op] : {std::pair<const char*, Op>{"moba_gate", moba_gate},
                                    {"moba_attention", moba_attention},
                                    {"full_attention", full_attention}}) {
    add(op_name, op)
        ->ArgNames({"rows", "depth"})
        ->Args({1, 1 << 14})
        ->Args({1, 1 << 17})
        ->Args({kTokens, 1 << 14});
  }
}

}  // namespace
}  // namespace quire::bench

int main(int argc, char** argv) {
  quire::bench::register_shape("bundled", quire::load_model_config(QUIRE_BUNDLED_MODEL));
  quire::bench::register_shape("llama-3.2-1b", quire::bench::shape_config("llama-3.2-1b"));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
