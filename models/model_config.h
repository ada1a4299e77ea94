#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/block_digest.h"
#include "kernels/selection_schedule.h"
#include "models/fp8_config.h"
#include "models/rope.h"

namespace quire {

/// A model folder that cannot be used: missing or lying files, shapes that do not fit, fields that
/// would change the mathematics. The message names file, tensor or key, expected and actual.
/// One line: what a file says is quoted with its control characters as "\x1b".
class LoadError : public std::runtime_error {
 public:
  explicit LoadError(const std::string& message);
};

enum class AttentionMode : uint8_t { kFull, kMoba };

/// How sparse attention runs; from config.json's `moba` section or from server settings. K, V and
/// centroids in the cache are the same whatever stands here, block_size and digest apart.
struct MobaConfig {
  int32_t block_size = 64;  // tokens per block: paging, sharing and selection unit
  int32_t top_k = 8;        // blocks per (token, head), the current block included; >= 1
  // The same of completion tokens; absent: top_k. A few tokens may look at more than a million do.
  std::optional<int32_t> decode_top_k = {};
  std::vector<int32_t> full_attention_layers = {};  // always run full attention; ascending
  SelectionSchedule schedule = {};                  // larger selection units for later tokens
  BlockDigest digest = BlockDigest::kMean;          // what stands for a block in the gate
  AttentionMode prefill = AttentionMode::kMoba;
  AttentionMode decode = AttentionMode::kMoba;

  bool is_full_attention_layer(int32_t layer) const;
  int32_t top_k_of_decode() const { return decode_top_k.value_or(top_k); }
};

/// A Llama-family architecture as numbers; variants are fields, not subclasses.
struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM", …
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;  // query heads
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;  // independent of hidden_size / num_heads
  float rms_norm_eps = 1e-5f;
  int32_t max_position_embeddings = 0;  // the model's context in tokens
  bool tie_word_embeddings = false;
  RopeConfig rope;
  std::vector<int32_t> unrotated_layers = {};  // without rotary embedding (SmolLM3); ascending
  bool has_qkv_bias = false;                   // of the projections to q, k and v
  bool has_output_bias = false;                // of the projection of what was attended
  bool has_mlp_bias = false;
  bool has_head_norm = false;          // every head of q and k is normed by itself (Qwen3)
  bool has_fused_projections = false;  // stored as qkv_proj and gate_up_proj (Phi-3)
  int32_t sliding_window = 0;          // tokens that windowed layers see, the own included; 0: all
  std::vector<int32_t> windowed_layers = {};  // ascending; none without a window
  std::optional<Fp8Scheme> fp8 = {};          // absent: no matrix is stored so
  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
  std::optional<MobaConfig> moba;  // absent: the weights were not trained for it

  int32_t group_size() const { return num_heads / num_kv_heads; }
  bool is_rotated_layer(int32_t layer) const;
  /// The window of a layer; 0 if it sees everything.
  int32_t window_of(int32_t layer) const;
};

/// Reads a Hugging Face config.json. An absent key has the value that transformers gives it
/// (config_defaults.h). Throws LoadError, naming the key, for an absurd value and for any field
/// that would change the mathematics and is not supported.
ModelConfig parse_model_config(std::string_view json_text, std::string_view source_name);

/// config.json of a folder; the end-of-sequence ids of generation_config.json, where there is one,
/// are added to its own. Where neither says any, there is the one of transformers, unless there is
/// a generation_config.json. Of a GGUF file (models/weights/find_gguf.h) what its metadata says.
ModelConfig load_model_config(const std::filesystem::path& model);

/// A schedule as text: "FROM:GROUP" or "FROM:GROUP:TOP_K", several with commas between them, like
/// "1048576:4,4194304:16:6"; "none" for no schedule. Throws LoadError, beginning with
/// `source_name`, for anything else; check_moba_config checks the numbers.
SelectionSchedule parse_selection_schedule(std::string_view text, std::string_view source_name);

/// The same text, from a schedule.
std::string schedule_text(const SelectionSchedule& schedule);

/// Throws LoadError unless `config.moba` (which may have come from settings rather than from the
/// folder) is in range and names existing layers. Nothing to check if it is absent.
void check_moba_config(const ModelConfig& config);

}  // namespace quire
