#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/sequence.h"
#include "models/model.h"
#include "tests/bench/quire_bench/bench_options.h"
#include "tests/bench/quire_bench/op_meter.h"
#include "tests/bench/quire_bench/random_table.h"

namespace quire::bench {

/// A model with its cache and the engine's own model runner, driven step by step without scheduler
/// and engine thread: what is measured is exactly what a step costs.
class BenchModel {
 public:
  /// Loads the model, or makes one of random weights: in a temporary folder that is gone before the
  /// first step. Throws LoadError, std::invalid_argument and std::runtime_error.
  explicit BenchModel(const BenchOptions& options);

  const ModelConfig& config() const { return model_->config(); }
  const MobaConfig& moba() const { return moba_; }
  std::string weight_types() const { return model_->weight_types(); }
  int64_t weight_bytes() const { return model_->weight_bytes(); }
  MeteredBackend& backend() { return backend_; }

  /// Memory of a cache for `num_sequences` of `num_tokens` each.
  int64_t cache_bytes(int64_t num_sequences, int64_t num_tokens) const;
  /// Free memory where the cache will lie, the device's or the machine's; 0 if nobody knows.
  uint64_t available_cache_bytes() const;

  /// Makes the cache, once, with at least so many bytes: random keys and values everywhere,
  /// centroids sealed. Steps may hold `limits`.
  void make_cache(int64_t num_bytes, const StepLimits& limits);

  /// Sequences with blocks of their own for `num_tokens` each. Replaces those of before.
  void make_sequences(int32_t num_sequences, int32_t num_tokens);

  /// One step: computes positions [first_pos, first_pos + num_tokens) of every sequence, whose
  /// newest token is at end_pos - 1. A step that reaches it samples, as the engine's does.
  void step(int32_t first_pos, int32_t num_tokens, int32_t end_pos);

 private:
  KvStorage::Shape storage_shape(int64_t num_blocks) const;
  int64_t blocks_of(int64_t num_tokens) const;
  void fill_cache();
  void fill_int8(const TensorView& tensor, RandomTable& table);
  void fill_scales(const TensorView& scales);
  void seal_cache();

  BenchOptions options_;
  std::mt19937 random_;
  MeteredBackend backend_;
  MobaConfig moba_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvStorage> storage_;
  std::unique_ptr<ModelRunner> runner_;
  std::vector<Sequence> sequences_;
};

}  // namespace quire::bench
