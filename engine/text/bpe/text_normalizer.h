#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/bpe/split_pattern.h"

namespace quire {

/// Changes text before it is cut, by the tables of Unicode that utf8proc has. (Those of Hugging
/// Face's library are older: the classes and compatible forms of some 120 rare characters differ.)
/// Linear in the text's length, but for sorting long runs of accents. Immutable, thread-safe.
class TextNormalizer {
 public:
  enum class Kind { kComposed, kDecomposed, kLowercase, kPrepend, kReplace, kStrip };
  struct Step {
    Kind kind;
    bool is_compatible = false;           // kComposed, kDecomposed: NFKC, NFKD
    bool strips_left = false;             // kStrip: white space
    bool strips_right = false;            // kStrip
    std::optional<SplitPattern> pattern;  // kReplace; must be there
    std::string content;                  // kPrepend (to texts that are not empty), kReplace
  };

  TextNormalizer() = default;
  explicit TextNormalizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  bool is_identity() const { return steps_.empty(); }
  /// REQUIRES: valid UTF-8.
  std::string normalize(std::string_view text) const;

 private:
  static std::string apply(const Step& step, std::string text);

  std::vector<Step> steps_;
};

/// White_Space of Unicode.
bool is_white_space(char32_t character);
/// The text without the white space at its start, or at its end.
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
/// Every `from` (not empty) becomes `to`, from left to right.
std::string replace_text(std::string_view text, std::string_view from, std::string_view to);

}  // namespace quire
