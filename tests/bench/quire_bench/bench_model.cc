#include "tests/bench/quire_bench/bench_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/backend_registry.h"
#include "server/bundled_model.h"
#include "server/machine_memory.h"
#include "tests/bench/quire_bench/random_table.h"
#include "tests/bench/quire_bench/shapes.h"
#include "tests/models/model_folder.h"

namespace quire::bench {
namespace {

constexpr float kStepsPerUnit = 32;  // of int8 keys and values, whose standard deviation is 1

MobaConfig chosen_moba(const ModelConfig& config, const BenchOptions& options) {
  MobaConfig moba = config.moba.value_or(MobaConfig{});
  if (options.block_size > 0) moba.block_size = options.block_size;
  if (options.top_k > 0) moba.top_k = options.top_k;
  if (!options.schedule.empty()) {
    moba.schedule = parse_selection_schedule(options.schedule, "--moba-schedule");
  }
  return moba;
}

void require_memory(uint64_t available, int64_t num_bytes, const std::string& what) {
  if (available == 0 || static_cast<uint64_t>(num_bytes) <= available) return;
  throw std::runtime_error(what + " needs " + std::to_string(num_bytes >> 20) + " MiB, " +
                           std::to_string(available >> 20) + " MiB are available");
}

/// Random weights need their size twice: as a file in the temporary folder (TMPDIR), which the
/// system may drop from its cache, and packed by the backend.
std::unique_ptr<Model> load_random_model(const ModelConfig& config, const MobaConfig& moba,
                                         const BenchOptions& options, Backend& backend) {
  const int64_t num_bytes = random_model_bytes(config);
  require_memory(available_memory_bytes(), num_bytes, "the model");
  const test::TemporaryFolder folder;
  const auto space = std::filesystem::space(folder.path());
  if (space.available < static_cast<uint64_t>(num_bytes)) {
    throw std::runtime_error(folder.path().string() + ": no room for weights of " +
                             std::to_string(num_bytes >> 20) + " MiB; set TMPDIR");
  }
  write_random_model(config, options.seed, folder.path());
  return load_model(folder.path(), backend, &moba, options.weights);
}

}  // namespace

BenchModel::BenchModel(const BenchOptions& options)
    : options_(options),
      random_(options.seed),
      backend_(make_backend(options.backend, {.num_threads = options.num_threads,
                                              .decode_graphs = !options.no_decode_graphs})) {
  if (options.op_times) backend_.wait_for_ops();
  const bool is_folder = !options.model.empty() || options.shape == "bundled";
  if (is_folder) {
    const auto folder = options.model.empty() ? bundled_model() : options.model;
    moba_ = chosen_moba(load_model_config(folder), options);
    model_ = load_model(folder, backend_, &moba_, options.weights);
  } else {
    const ModelConfig config = shape_config(options.shape);
    moba_ = chosen_moba(config, options);
    model_ = load_random_model(config, moba_, options, backend_);
  }
}

KvStorage::Shape BenchModel::storage_shape(int64_t num_blocks) const {
  return {.num_layers = config().num_layers,
          .num_blocks = static_cast<int32_t>(num_blocks),
          .num_kv_heads = config().num_kv_heads,
          .block_size = moba_.block_size,
          .head_dim = config().head_dim,
          .num_stages = moba_.schedule.num_stages,
          .dtype = options_.kv_dtype,
          .digest = moba_.digest};
}

int64_t BenchModel::blocks_of(int64_t num_tokens) const {
  int64_t unit = 1;
  for (const SelectionStage& stage : moba_.schedule.stages)
    unit = std::max<int64_t>(unit, stage.group);
  return ((num_tokens + moba_.block_size - 1) / moba_.block_size + unit - 1) / unit * unit;
}

uint64_t BenchModel::available_cache_bytes() const {
  const DeviceMemory device = backend_.device_memory();
  return device.exists() ? device.free_bytes : available_memory_bytes();
}

int64_t BenchModel::cache_bytes(int64_t num_sequences, int64_t num_tokens) const {
  return num_sequences * blocks_of(num_tokens) * KvStorage::bytes_per_block(storage_shape(1));
}

void BenchModel::make_cache(int64_t num_bytes, const StepLimits& limits) {
  require_memory(available_cache_bytes(), num_bytes, "the KV cache");
  const int64_t block_bytes = KvStorage::bytes_per_block(storage_shape(1));
  storage_ = std::make_unique<KvStorage>(
      backend_, storage_shape((num_bytes + block_bytes - 1) / block_bytes));
  fill_cache();
  seal_cache();
  runner_ = std::make_unique<ModelRunner>(backend_, *model_, *storage_, limits);
}

void BenchModel::fill_cache() {
  RandomTable table(options_.seed);
  for (const PagedKvView& layer : storage_->layers()) {
    for (const TensorView& tensor : {layer.k, layer.v}) {
      if (tensor.dtype == DType::kI8) {
        fill_int8(tensor, table);
        continue;
      }
      auto* to = tensor.data_as<BFloat16>();
      table.hand_out(tensor.num_elements(), [&](std::span<const BFloat16> values) {
        backend_.upload(std::as_bytes(values), to);
        to += values.size();
      });
    }
    if (!layer.is_int8()) continue;
    fill_scales(layer.k_scales);
    fill_scales(layer.v_scales);
  }
}

/// The same numbers in steps of 1 / kStepsPerUnit; about four standard deviations fit.
void BenchModel::fill_int8(const TensorView& tensor, RandomTable& table) {
  auto* to = tensor.data_as<int8_t>();
  std::vector<int8_t> integers;
  table.hand_out(tensor.num_elements(), [&](std::span<const BFloat16> values) {
    integers.clear();
    for (const BFloat16 value : values) {
      const float steps = std::clamp(to_float(value) * kStepsPerUnit, -127.0f, 127.0f);
      integers.push_back(static_cast<int8_t>(std::lrint(steps)));
    }
    backend_.upload(std::as_bytes(std::span(integers)), to);
    to += integers.size();
  });
}

void BenchModel::fill_scales(const TensorView& scales) {
  const std::vector<BFloat16> steps(size_t{1} << 14, to_bfloat16(1.0f / kStepsPerUnit));
  for (int64_t first = 0; first < scales.num_elements();) {
    const int64_t count =
        std::min(static_cast<int64_t>(steps.size()), scales.num_elements() - first);
    backend_.upload(std::as_bytes(std::span(steps).first(static_cast<size_t>(count))),
                    scales.data_as<BFloat16>() + first);
    first += count;
  }
}

void BenchModel::seal_cache() {
  std::vector<int32_t> ids(static_cast<size_t>(storage_->shape().num_blocks));
  std::iota(ids.begin(), ids.end(), 0);
  const auto buffer = backend_.allocate(ids.size() * sizeof(int32_t));
  backend_.upload(std::as_bytes(std::span(ids)), buffer->data());
  const ConstTensorView view =
      make_view(static_cast<const int32_t*>(buffer->data()), {static_cast<int64_t>(ids.size())});
  for (const PagedKvView& layer : storage_->layers()) {
    backend_.seal_blocks({.kv = layer, .block_ids = view});
    // Sequences start at multiples of the largest unit, so ids stand in for logical indices.
    for (int32_t stage = 0; stage < moba_.schedule.num_stages; ++stage) {
      const int64_t group = moba_.schedule.stages[static_cast<size_t>(stage)].group;
      const int64_t num_units = static_cast<int64_t>(ids.size()) / group;
      backend_.seal_units({.kv = layer,
                           .stage = stage,
                           .members = make_view(view.data_as<int32_t>(), {num_units, group})});
    }
  }
  backend_.synchronize();
}

void BenchModel::make_sequences(int32_t num_sequences, int32_t num_tokens) {
  const int64_t num_blocks = blocks_of(num_tokens);
  QUIRE_CHECK(storage_ && num_sequences * num_blocks <= storage_->shape().num_blocks)
      << num_sequences << " sequences of " << num_blocks << " blocks";
  sequences_.clear();
  for (int32_t s = 0; s < num_sequences; ++s) {
    Sequence& sequence = sequences_.emplace_back();
    sequence.id = SequenceId{static_cast<uint64_t>(s)};
    sequence.request.sampling.temperature = 0;
    sequence.tokens.reserve(static_cast<size_t>(num_tokens));
    for (int64_t block = 0; block < num_blocks; ++block) {
      sequence.block_table.block_ids.push_back(
          BlockId{static_cast<int32_t>(s * num_blocks + block)});
    }
  }
}

void BenchModel::step(int32_t first_pos, int32_t num_tokens, int32_t end_pos) {
  const auto vocab_size = static_cast<uint32_t>(config().vocab_size);
  StepPlan plan;
  for (Sequence& sequence : sequences_) {
    if (sequence.num_tokens() > end_pos) sequence.tokens.resize(static_cast<size_t>(end_pos));
    while (sequence.num_tokens() < end_pos) {
      sequence.tokens.push_back(static_cast<TokenId>(random_() % vocab_size));
    }
    sequence.num_computed_tokens = first_pos;
    plan.sequences.push_back({.sequence = &sequence,
                              .num_tokens = num_tokens,
                              .samples = first_pos + num_tokens == end_pos,
                              .attention = options_.attention,
                              .top_k = moba_.top_k});
  }
  runner_->run_step(plan);
}

}  // namespace quire::bench
