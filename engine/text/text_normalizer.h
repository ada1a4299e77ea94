#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/split_pattern.h"

namespace quire {

/// The "normalizer" of a tokenizer.json: NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip
/// and Sequences of them. Linear in the text's length, but for sorting long runs of accents.
/// Immutable, thread-safe.
class TextNormalizer {
 public:
  TextNormalizer() = default;
  /// Throws LoadError, beginning with `source_name`, for what is not supported.
  TextNormalizer(const nlohmann::json& json, const std::string& source_name);

  bool is_identity() const { return steps_.empty(); }
  /// REQUIRES: valid UTF-8.
  std::string normalize(std::string_view text) const;

 private:
  enum class Kind { kComposed, kDecomposed, kLowercase, kPrepend, kReplace, kStrip };
  struct Step {
    Kind kind;
    bool is_compatible = false;  // NFKC, NFKD
    bool strips_left = false;
    bool strips_right = false;
    std::optional<SplitPattern> pattern;
    std::string content;
  };

  void add(const nlohmann::json& json, const std::string& source_name);
  static std::string apply(const Step& step, std::string text);

  std::vector<Step> steps_;
};

/// White_Space of Unicode.
bool is_white_space(char32_t character);
/// The text without the white space at its start, or at its end.
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);

/// {"String": …} or {"Regex": …} of a tokenizer.json.
SplitPattern read_pattern(const nlohmann::json& json, const std::string& where);

}  // namespace quire
