#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace quire {

class JsonFields;
struct ModelConfig;

/// How a model's rotation frequencies reach contexts longer than those it was pretrained on; the
/// names are Hugging Face's rope types.
enum class RopeType : uint8_t { kDefault, kLinear, kDynamic, kYarn, kLlama3, kLongRope };

/// Rotary embedding as config.json states it. Only the fields of its type mean something.
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  int32_t rotary_dim = 0;  // the first dimensions of a head, that rotate; even, <= head_dim
  double factor = 1;
  int32_t original_positions = 0;        // the context of the pretraining: yarn, llama3, longrope
  double attention_factor = 1;           // of cos and sin: yarn, longrope
  double beta_fast = 32, beta_slow = 1;  // yarn: turns over the original context between which
  bool truncate = true;                  // frequencies are blended; whole dimensions?
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3: likewise, as original / wavelength
  std::vector<double> short_factor, long_factor;     // longrope: [rotary_dim / 2]
  // Of each frequency, [rotary_dim / 2]: what a GGUF has instead of llama3; empty: none.
  std::vector<float> divisors;
};

struct RopeFrequencies {
  std::vector<double> inv_freq;  // [rotary_dim / 2] radians per position
  double attention_factor = 1;   // multiplies cos and sin
  bool is_long = false;          // longrope's long factors
};

/// The rope fields of a config.json: `rope_parameters`, or the older `rope_scaling` and
/// `rope_theta`, which wins where a folder has both, as in transformers. config.head_dim and
/// max_position_embeddings are set. Throws LoadError naming the key for an unknown type, an unknown
/// key and a value that the type's formula cannot take.
RopeConfig parse_rope(const JsonFields& fields, std::string_view source_name,
                      const ModelConfig& config);

/// The formulas of transformers' ROPE_INIT_FUNCTIONS, in f64. Two of them depend on the length of
/// the sequence. A cached key is rotated once and for all, so here the longest sequence of the
/// server, max_model_len tokens, decides for every sequence:
///   dynamic   theta grows if max_model_len > max_position_embeddings; up to there nothing changes
///   longrope  long_factor if max_model_len > original_positions, else short_factor
RopeFrequencies rope_frequencies(const ModelConfig& config, int32_t max_model_len);

}  // namespace quire
