#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

class JsonFields;

/// How a folder stores matrices in FP8: which numbers share a scale, and what the scales are
/// called.
struct Fp8Scheme {
  // A scale is that of so many rows and columns of a matrix; 0: of all of them.
  int64_t scale_rows = 0;
  int64_t scale_columns = 0;
  // The names that the tensor of scales may have, behind the matrix's ("….weight"): "_scale".
  std::vector<std::string> scale_suffixes = {};
  // Modules that are said not to be quantised, by their full names ("lm_head").
  std::set<std::string, std::less<>> plain_modules = {};
};

/// The `quantization_config` of a config.json; nothing if there is none. Known are
///   "compressed-tensors" with "float-quantized" weights of 8 bits, and scales by tensor, channel
///   or block (the PyPI package compressed-tensors, QuantizationConfig), and
///   "fp8" with scales by tensor or block (transformers, FineGrainedFP8Config).
/// What they say about activations is not read: they stay bf16. Throws LoadError naming the key for
/// anything else that would change a weight.
std::optional<Fp8Scheme> parse_fp8_scheme(const JsonFields& config, std::string_view source_name);

}  // namespace quire
