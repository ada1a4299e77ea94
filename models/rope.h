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
  std::vector<double>
      long_inv_freq;            // of sequences of more than switch_len tokens; empty: the same
  int32_t switch_len = 0;       // tokens; 0: one set for all
  double attention_factor = 1;  // multiplies cos and sin, of both sets

  /// The set of a sequence of so many tokens.
  const std::vector<double>& of(int32_t num_tokens) const {
    return switch_len > 0 && num_tokens > switch_len ? long_inv_freq : inv_freq;
  }
};

/// The rope fields of a config.json: `rope_parameters`, or the older `rope_scaling` and
/// `rope_theta`, which wins where a folder has both, as in transformers. config.head_dim and
/// max_position_embeddings are set. Throws LoadError naming the key for an unknown type, an unknown
/// key and a value that the type's formula cannot take.
RopeConfig parse_rope(const JsonFields& fields, std::string_view source_name,
                      const ModelConfig& config);

/// The formulas of transformers' ROPE_INIT_FUNCTIONS, in f64. Two of them depend on the length of
/// the sequence:
///   longrope  short_factor up to original_positions tokens, long_factor for all positions of a
///             longer sequence; who grows past the limit is computed again from its first token.
///             There are two sets only if max_model_len, the longest sequence's, is beyond it.
///   dynamic   theta grows with every token beyond max_position_embeddings, and a cached key is
///             rotated once and for all; so max_model_len decides for every sequence.
RopeFrequencies rope_frequencies(const ModelConfig& config, int32_t max_model_len);

}  // namespace quire
