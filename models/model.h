#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/backend.h"
#include "kernels/paged_kv.h"
#include "models/model_config.h"

namespace quire {

/// What one step computes: flat arrays in the backend's memory. Rows are packed sequence after
/// sequence; the sequences that run with MoBA come first, those with full attention after them.
struct ModelInput {
  ConstTensorView tokens;          // [num_tokens] i32
  ConstTensorView positions;       // [num_tokens] i32
  ConstTensorView rope_sets;       // [num_tokens] i32, each its sequence's; absent: 0 for all
  ConstTensorView slots;           // [num_tokens] i64, block id * block_size + offset
  RaggedBatchView batch;           // all sequences of the step
  int32_t num_moba_seqs = 0;       // the first so many sequences of `batch` run with MoBA
  int32_t max_selected = 1;        // the most blocks that a token of theirs may select
  ConstTensorView top_k;           // [num_moba_seqs] i32
  ConstTensorView sealing_blocks;  // [num_sealing] i32 block ids that this step fills
  // Of each stage of the selection schedule: [num_units, group] i32 block ids of the units that
  // this step completes.
  std::array<ConstTensorView, SelectionSchedule::kMaxStages> sealing_units;
  ConstTensorView logit_rows;  // [num_logit_rows] i32 rows whose logits are wanted, ascending
};

/// Upper bounds of one step, from which scratch memory is sized once.
struct StepLimits {
  int32_t max_tokens = 0;
  int32_t max_logit_rows = 0;
  int32_t max_top_k = 1;  // of a sequence
};

/// A loaded model. Stateless after loading: forward writes only to the workspace and, through
/// append_kv and seal_blocks, to the cache. Engine thread only.
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual int64_t weight_bytes() const = 0;  // as the backend multiplies them
  /// What its matrices are multiplied as, for the banner: "bf16", "int8", "Q4_K, F16 as bf16".
  virtual std::string weight_types() const = 0;
  virtual size_t workspace_bytes(const StepLimits&) const = 0;
  /// Tokens up to which a sequence is rotated with rope set 0; all positions of a longer one have
  /// set 1, so who grows past it must be computed again. 0: there is one set.
  virtual int32_t rope_switch_len() const { return 0; }

  /// Runs one step. `layers` holds one view per layer, all with the same block ids and block_size.
  /// Per layer: append_kv, seal_blocks, moba_gate, moba_attention (or full_attention).
  /// Returns [num_logit_rows, vocab_size] f32 logits in `workspace`, valid until its next reset.
  virtual TensorView forward(const ModelInput&, std::span<const PagedKvView> layers,
                             Workspace&) = 0;
};

struct LoadOptions {
  /// The longest sequence that will run, in tokens; 0: max_position_embeddings. What frequencies
  /// some kinds of RoPE scaling have follows from it (rope_frequencies).
  int32_t max_model_len = 0;
  /// Matrices that are stored in FP8 stay so, beside their scales. Only on a backend that
  /// keeps_fp8(), with WeightFormat::kOriginal.
  bool keep_fp8 = false;
  /// Takes a line whenever there is something to tell a person who waits: how far a long load has
  /// come, and what it does to the weights.
  std::function<void(const std::string& line)> log = {};
  /// Hears after every few tensors how many of the files' bytes have been read; in the end, all.
  std::function<void(int64_t read_bytes, int64_t all_bytes)> progress = {};
};

/// Loads config.json and *.safetensors from a Hugging Face folder, or a GGUF file. `moba` overrides
/// the folder's own section (its full_attention_layers choose the layers that run full attention).
/// `format` is that of all matrices but the embedding table. Throws LoadError. The backend must
/// outlive the model.
std::unique_ptr<Model> load_model(const std::filesystem::path& model, Backend&,
                                  const MobaConfig* moba = nullptr,
                                  WeightFormat format = WeightFormat::kOriginal,
                                  const LoadOptions& options = {});

}  // namespace quire
