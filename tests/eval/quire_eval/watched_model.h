#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/model_runner.h"
#include "engine/scheduler/sequence.h"
#include "models/model.h"
#include "tests/eval/quire_eval/attention_tap.h"

namespace quire::eval {

/// A model that reads one sequence, whose blocks lie in order; its attention passes a tap.
class WatchedModel {
 public:
  struct Options {
    std::filesystem::path model;  // a Hugging Face folder
    std::string backend = "cpu";
    int num_threads = 0;          // 0: as many CPUs as the process may use
    int32_t max_tokens = 0;       // of the sequence
    int32_t max_step_tokens = 0;  // of one read_to
    MobaConfig moba;              // in place of the model's own
  };

  /// Throws LoadError and DeviceError.
  explicit WatchedModel(const Options& options);

  const ModelConfig& config() const { return model_->config(); }
  AttentionTap& backend() { return backend_; }
  int32_t num_computed() const { return sequence_.num_computed_tokens; }

  /// Lets the sequence go on with `tokens` behind its first `begin`, which have been read.
  void write(int32_t begin, const std::vector<TokenId>& tokens);

  /// Reads on up to `end`, at most max_step_tokens further; top_k counts with kMoba.
  void read_to(int32_t end, AttentionMode attention, int32_t top_k);

 private:
  AttentionTap backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvStorage> storage_;
  std::unique_ptr<ModelRunner> runner_;
  Sequence sequence_;
};

}  // namespace quire::eval
