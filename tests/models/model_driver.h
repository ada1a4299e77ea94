#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "models/model.h"

namespace quire::test {

/// Names of the backends that can run here. Never empty: the reference always can.
std::vector<std::string> available_backends();

/// Runs a model as the engine does, without the engine: its own block pool with shuffled block ids,
/// a cache that starts out as NaN (whoever reads what was never written will show it), and a
/// workspace of exactly the size that the model asked for.
class ModelDriver {
 public:
  struct Limits {
    int32_t max_tokens = 2048;
    int32_t max_top_k = 16;
    int32_t num_blocks = 128;
    uint32_t shuffle_seed = 1;
    WeightFormat weights = WeightFormat::kOriginal;
    DType kv_dtype = DType::kBF16;  // or f32, with the reference backend
    bool keep_fp8 = false;
  };

  ModelDriver(const std::filesystem::path& model_dir, std::string_view backend,
              const MobaConfig& moba, const Limits& limits);

  /// A sequence without tokens, whose positions are rotated with this rope set.
  size_t add_sequence(int32_t rope_set = 0);

  struct Piece {
    size_t sequence = 0;
    std::vector<int32_t> tokens;
    AttentionMode mode = AttentionMode::kMoba;
    int32_t top_k = 1;
    bool wants_logits = true;  // of the last token
  };
  /// One step; pieces with kMoba first. Returns the logits of the pieces that want them, in order.
  std::vector<std::vector<float>> step(const std::vector<Piece>& pieces);

  /// All of `tokens` in pieces of `chunk_size`, then the last token's logits.
  std::vector<float> prefill(size_t sequence, const std::vector<int32_t>& tokens,
                             int32_t chunk_size, const MobaConfig& moba);

  Model& model() { return *model_; }
  const Workspace& workspace() const { return workspace_; }

 private:
  struct Sequence {
    std::vector<int32_t> block_ids;
    int32_t num_tokens = 0;
    int32_t rope_set = 0;
  };
  /// The arrays of one step, on the host and, after upload, in the backend's memory.
  struct StepArrays;

  void plan_piece(const Piece& piece, StepArrays& arrays);

  int32_t block_size_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  std::vector<PagedKvView> layers_;
  Workspace workspace_;
  std::vector<int32_t> free_blocks_;
  std::vector<Sequence> sequences_;
};

}  // namespace quire::test
