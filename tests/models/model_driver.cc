#include "tests/models/model_driver.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <random>

#include "kernels/backend_registry.h"
#include "tests/support/backends.h"

namespace quire::test {
namespace {

constexpr BFloat16 kNan{0x7FC0};

/// Full of NaN: two of bf16 are one of f32.
TensorView allocate_poisoned(Backend& backend, DType dtype, std::initializer_list<int64_t> shape,
                             std::vector<std::unique_ptr<DeviceBuffer>>& buffers) {
  TensorView view = make_view(static_cast<void*>(nullptr), dtype, shape);
  const std::vector<BFloat16> poison(
      static_cast<size_t>(view.num_elements() * element_bytes(dtype)) / sizeof(BFloat16), kNan);
  buffers.push_back(backend.allocate(poison.size() * sizeof(BFloat16)));
  view.data = buffers.back()->data();
  backend.upload(std::as_bytes(std::span(poison)), view.data);
  return view;
}

template <class T>
ConstTensorView upload(Backend& backend, const std::vector<T>& host,
                       std::vector<std::unique_ptr<DeviceBuffer>>& buffers) {
  if (host.empty()) return make_view(static_cast<const T*>(nullptr), {0});
  buffers.push_back(backend.allocate(host.size() * sizeof(T)));
  backend.upload(std::as_bytes(std::span(host)), buffers.back()->data());
  return make_view(static_cast<const T*>(buffers.back()->data()),
                   {static_cast<int64_t>(host.size())});
}

}  // namespace

std::vector<std::string> available_backends() { return kernel_backends(); }

struct ModelDriver::StepArrays {
  std::vector<int32_t> tokens, positions, rope_sets;
  std::vector<int64_t> slots;
  std::vector<int32_t> cu_query_lens{0}, kv_lens, top_k, sealing, logit_rows;
  std::vector<size_t> owners;  // the sequence of each piece
  int32_t num_moba = 0, max_query_len = 0, max_kv_len = 0, max_top_k = 1;
};

ModelDriver::ModelDriver(const std::filesystem::path& model_dir, std::string_view backend,
                         const MobaConfig& moba, const Limits& limits)
    : block_size_(moba.block_size),
      // Two threads: enough to show a race, and no crowd when tests run side by side.
      backend_(make_backend(backend, {.num_threads = 2})),
      model_(
          load_model(model_dir, *backend_, &moba, limits.weights, {.keep_fp8 = limits.keep_fp8})),
      workspace_(backend_->allocate(model_->workspace_bytes({.max_tokens = limits.max_tokens,
                                                             .max_logit_rows = 16,
                                                             .max_top_k = limits.max_top_k}))) {
  const ModelConfig& c = model_->config();
  for (int32_t layer = 0; layer < c.num_layers; ++layer) {
    PagedKvView kv;
    kv.digest = moba.digest;
    kv.k =
        allocate_poisoned(*backend_, limits.kv_dtype,
                          {limits.num_blocks, c.num_kv_heads, block_size_, c.head_dim}, buffers_);
    kv.v =
        allocate_poisoned(*backend_, limits.kv_dtype,
                          {limits.num_blocks, c.num_kv_heads, block_size_, c.head_dim}, buffers_);
    kv.centroids = allocate_poisoned(
        *backend_, DType::kBF16,
        {limits.num_blocks, c.num_kv_heads, digest_dim(moba.digest, c.head_dim)}, buffers_);
    layers_.push_back(kv);
  }
  free_blocks_.resize(static_cast<size_t>(limits.num_blocks));
  std::iota(free_blocks_.begin(), free_blocks_.end(), 0);
  std::shuffle(free_blocks_.begin(), free_blocks_.end(), std::mt19937(limits.shuffle_seed));
}

size_t ModelDriver::add_sequence(int32_t rope_set) {
  sequences_.push_back({.block_ids = {}, .rope_set = rope_set});
  return sequences_.size() - 1;
}

void ModelDriver::plan_piece(const Piece& piece, StepArrays& arrays) {
  Sequence& sequence = sequences_.at(piece.sequence);
  for (const int32_t token : piece.tokens) {
    const int32_t offset = sequence.num_tokens % block_size_;
    if (offset == 0) {
      QUIRE_CHECK(!free_blocks_.empty()) << "the test's block pool is too small";
      sequence.block_ids.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    const int32_t block = sequence.block_ids.back();
    arrays.tokens.push_back(token);
    arrays.positions.push_back(sequence.num_tokens++);
    arrays.rope_sets.push_back(sequence.rope_set);
    arrays.slots.push_back(int64_t{block} * block_size_ + offset);
    if (offset == block_size_ - 1) arrays.sealing.push_back(block);
  }
  const auto num_rows = static_cast<int32_t>(arrays.tokens.size());
  arrays.cu_query_lens.push_back(num_rows);
  arrays.kv_lens.push_back(sequence.num_tokens);
  arrays.owners.push_back(piece.sequence);
  if (piece.mode == AttentionMode::kMoba) {
    ++arrays.num_moba;
    arrays.top_k.push_back(piece.top_k);
    arrays.max_top_k = std::max(arrays.max_top_k, piece.top_k);
  }
  if (piece.wants_logits) arrays.logit_rows.push_back(num_rows - 1);
  arrays.max_query_len = std::max(arrays.max_query_len, static_cast<int32_t>(piece.tokens.size()));
  arrays.max_kv_len = std::max(arrays.max_kv_len, sequence.num_tokens);
}

std::vector<std::vector<float>> ModelDriver::step(const std::vector<Piece>& pieces) {
  StepArrays arrays;
  for (const Piece& piece : pieces) plan_piece(piece, arrays);

  size_t width = 1;
  for (const size_t owner : arrays.owners) {
    width = std::max(width, sequences_[owner].block_ids.size());
  }
  std::vector<int32_t> tables;
  for (const size_t owner : arrays.owners) {
    const auto& ids = sequences_[owner].block_ids;
    tables.insert(tables.end(), ids.begin(), ids.end());
    tables.insert(tables.end(), width - ids.size(), -1);
  }

  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  ModelInput input;
  input.tokens = upload(*backend_, arrays.tokens, buffers);
  input.positions = upload(*backend_, arrays.positions, buffers);
  if (model_->rope_switch_len() > 0) {
    input.rope_sets = upload(*backend_, arrays.rope_sets, buffers);
  }
  input.slots = upload(*backend_, arrays.slots, buffers);
  input.batch.cu_query_lens = upload(*backend_, arrays.cu_query_lens, buffers);
  input.batch.kv_lens = upload(*backend_, arrays.kv_lens, buffers);
  input.batch.block_tables =
      make_view(upload(*backend_, tables, buffers).data_as<int32_t>(),
                {static_cast<int64_t>(pieces.size()), static_cast<int64_t>(width)});
  input.batch.max_query_len = arrays.max_query_len;
  input.batch.max_kv_len = arrays.max_kv_len;
  input.num_moba_seqs = arrays.num_moba;
  input.max_selected = arrays.max_top_k;
  input.top_k = upload(*backend_, arrays.top_k, buffers);
  input.sealing_blocks = upload(*backend_, arrays.sealing, buffers);
  input.logit_rows = upload(*backend_, arrays.logit_rows, buffers);

  workspace_.reset();
  const bool is_decode = std::ranges::all_of(
      pieces, [](const Piece& piece) { return piece.tokens.size() == 1 && piece.wants_logits; });
  std::optional<DecodeStep> step;  // as the engine's runner has it
  if (is_decode) step.emplace(*backend_);
  const TensorView logits = model_->forward(input, layers_, workspace_);
  if (step) step->end();
  QUIRE_CHECK(logits.shape[0] == static_cast<int64_t>(arrays.logit_rows.size()))
      << logits.shape[0] << " rows of logits";
  std::vector<std::vector<float>> rows;
  for (int64_t r = 0; r < logits.shape[0]; ++r) {
    auto& row = rows.emplace_back(static_cast<size_t>(logits.shape[1]));
    backend_->download(logits.rows(r, 1).data, std::as_writable_bytes(std::span(row)));
  }
  return rows;
}

std::vector<float> ModelDriver::prefill(size_t sequence, const std::vector<int32_t>& tokens,
                                        int32_t chunk_size, const MobaConfig& moba) {
  const auto size = static_cast<size_t>(chunk_size);
  std::vector<float> logits;
  for (size_t begin = 0; begin < tokens.size(); begin += size) {
    const size_t end = std::min(tokens.size(), begin + size);
    Piece piece{.sequence = sequence,
                .tokens = {tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                           tokens.begin() + static_cast<std::ptrdiff_t>(end)},
                .mode = moba.prefill,
                .top_k = moba.top_k,
                .wants_logits = end == tokens.size()};
    auto rows = step({piece});
    if (!rows.empty()) logits = std::move(rows.front());
  }
  return logits;
}

}  // namespace quire::test
