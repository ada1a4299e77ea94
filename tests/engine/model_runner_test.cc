#include "engine/runner/model_runner.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/scheduler/sequence.h"
#include "kernels/backend_registry.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 97;
constexpr KvStorage::Shape kShape{
    .num_layers = 2, .num_blocks = 16, .num_kv_heads = 1, .block_size = 4, .head_dim = 8};

/// Predicts for every wanted row the token (3 * its token + 5 * its position) mod vocabulary.
class ArithmeticModel final : public Model {
 public:
  ArithmeticModel() {
    config_.vocab_size = kVocab;
    config_.num_layers = kShape.num_layers;
    config_.num_kv_heads = kShape.num_kv_heads;
    config_.num_heads = kShape.num_kv_heads;
    config_.head_dim = kShape.head_dim;
  }
  const ModelConfig& config() const override { return config_; }
  int64_t weight_bytes() const override { return 0; }
  std::string weight_types() const override { return "none"; }
  size_t workspace_bytes(const StepLimits& limits) const override {
    return Workspace::padded(static_cast<size_t>(limits.max_logit_rows) * kVocab * sizeof(float));
  }
  TensorView forward(const ModelInput& input, std::span<const PagedKvView> layers,
                     Workspace& workspace) override {
    if (fails) throw DeviceError("matmul: the device is gone");
    num_layers_seen = layers.size();
    const int64_t num_rows = input.logit_rows.num_elements();
    const TensorView logits = workspace.take<float>({num_rows, kVocab});
    for (int64_t r = 0; r < num_rows; ++r) {
      const int32_t row = input.logit_rows.data_as<int32_t>()[r];
      const int32_t token = input.tokens.data_as<int32_t>()[row];
      const int32_t position = input.positions.data_as<int32_t>()[row];
      for (int32_t v = 0; v < kVocab; ++v) {
        logits.data_as<float>()[r * kVocab + v] = v == predict(token, position) ? 1.0f : 0.0f;
      }
    }
    return logits;
  }
  static TokenId predict(TokenId token, int32_t position) {
    return (3 * token + 5 * position) % kVocab;
  }

  bool fails = false;
  size_t num_layers_seen = 0;

 private:
  ModelConfig config_;
};

std::unique_ptr<Sequence> make_sequence(uint64_t id, std::vector<TokenId> tokens, int32_t block) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = SequenceId{id};
  sequence->num_prompt_tokens = static_cast<int32_t>(tokens.size());
  sequence->tokens = std::move(tokens);
  sequence->request.sampling.temperature = 0;
  for (int32_t i = 0; i < 4; ++i) sequence->block_table.block_ids.push_back(BlockId{block + i});
  return sequence;
}

struct Rig {
  std::unique_ptr<Backend> backend = make_backend("reference");
  ArithmeticModel model;
  KvStorage storage{*backend, kShape};
  ModelRunner runner{
      *backend, model, storage, {.max_tokens = 8, .max_logit_rows = 3, .max_top_k = 2}};
};

}  // namespace

TEST_CASE("One token per sampling entry, in plan order", "[model_runner]") {
  Rig rig;
  const auto decoding = make_sequence(1, {4, 8}, 0);
  decoding->num_computed_tokens = 1;
  const auto partial = make_sequence(2, {1, 2, 3, 4, 5, 6}, 4);
  const auto whole = make_sequence(3, {11, 12, 13}, 8);
  StepPlan plan;
  plan.sequences.push_back({.sequence = decoding.get(), .num_tokens = 1, .samples = true});
  plan.sequences.push_back({.sequence = partial.get(), .num_tokens = 4, .samples = false});
  plan.sequences.push_back({.sequence = whole.get(), .num_tokens = 3, .samples = true});

  const auto sampled = rig.runner.run_step(plan);
  REQUIRE(sampled.size() == 2);
  CHECK(sampled[0].sequence == SequenceId{1});
  CHECK(sampled[0].token == ArithmeticModel::predict(8, 1));
  CHECK(sampled[1].sequence == SequenceId{3});
  CHECK(sampled[1].token == ArithmeticModel::predict(13, 2));
  CHECK(rig.model.num_layers_seen == 2);
}

TEST_CASE("A step without a sampling entry yields nothing", "[model_runner]") {
  Rig rig;
  const auto partial = make_sequence(2, {1, 2, 3, 4, 5, 6}, 4);
  StepPlan plan;
  plan.sequences.push_back({.sequence = partial.get(), .num_tokens = 4});
  CHECK(rig.runner.run_step(plan).empty());
}

TEST_CASE("A step over the limits is refused and the next one runs", "[model_runner]") {
  Rig rig;
  const auto sequence = make_sequence(1, {1, 2, 3, 4, 5, 6, 7, 8, 9}, 0);
  StepPlan plan;
  plan.sequences.push_back({.sequence = sequence.get(), .num_tokens = 9, .samples = true});
  CHECK_THROWS_AS(rig.runner.run_step(plan), ContractError);
  rig.model.fails = true;
  plan.sequences[0] = {.sequence = sequence.get(), .num_tokens = 8};
  CHECK_THROWS_AS(rig.runner.run_step(plan), DeviceError);
  rig.model.fails = false;
  CHECK(rig.runner.run_step(plan).empty());
}

TEST_CASE("Storage has one zeroed set of tiles per layer, as large as it says", "[kv_storage]") {
  const auto backend = make_backend("reference");
  KvStorage::Shape shape = kShape;
  shape.digest = GENERATE(BlockDigest::kMean, BlockDigest::kBounds, BlockDigest::kCuboidMean);
  const KvStorage storage(*backend, shape);
  REQUIRE(storage.layers().size() == 2);
  int64_t num_bytes = 0;
  for (const PagedKvView& layer : storage.layers()) {
    CHECK(layer.num_blocks() == 16);
    CHECK(layer.block_size() == 4);
    CHECK(layer.head_dim() == 8);
    CHECK(layer.digest == shape.digest);
    CHECK(layer.centroids.shape[2] == (shape.digest == BlockDigest::kMean ? 8 : 16));
    for (const TensorView& tensor : {layer.k, layer.v, layer.centroids}) {
      num_bytes += tensor.num_elements() * element_bytes(tensor.dtype);
      const auto* values = tensor.data_as<BFloat16>();
      CHECK(std::all_of(values, values + tensor.num_elements(),
                        [](BFloat16 value) { return value.bits == 0; }));
    }
  }
  CHECK(num_bytes == 16 * KvStorage::bytes_per_block(shape));
}

TEST_CASE("A runner whose storage is another model's is refused", "[model_runner]") {
  const auto backend = make_backend("reference");
  ArithmeticModel model;
  KvStorage::Shape deeper = kShape, of_bounds = kShape;
  deeper.num_layers = 3;
  of_bounds.digest = BlockDigest::kBounds;
  for (const KvStorage::Shape& shape : {deeper, of_bounds}) {
    const KvStorage storage(*backend, shape);
    CHECK_THROWS_AS(ModelRunner(*backend, model, storage, {.max_tokens = 8, .max_logit_rows = 1}),
                    ContractError);
  }
}

}  // namespace quire
