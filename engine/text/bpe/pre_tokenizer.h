#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/bpe/split_pattern.h"

namespace quire {

/// Cuts text into the pieces that are encoded one by one. Pieces stay text: a byte-level model
/// takes their bytes as symbols. Immutable, thread-safe.
class PreTokenizer {
 public:
  /// What becomes of the ranges that match a pattern and of those between them.
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prefix { kNever, kFirst, kAlways };  // kFirst: where no text stands before

  /// Does what it asks for in this order: replaces spaces, puts a prefix in front, cuts.
  struct Step {
    std::string replacement;  // of spaces; empty: they stay
    Prefix prefix = Prefix::kNever;
    std::string prefix_text;              // only before a piece that does not start with it
    std::optional<SplitPattern> pattern;  // none: the text stays whole
    Behavior behavior = Behavior::kIsolated;
    bool inverts = false;  // what the pattern leaves counts as the match
  };

  /// How GPT-2 cuts words, contractions, numbers and white space.
  static constexpr std::string_view kGpt2Pattern =
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

  /// Takes the pieces in their order.
  class Sink {
   public:
    virtual ~Sink() = default;
    /// `piece` is not empty and valid during the call alone.
    virtual void on_piece(std::string_view piece) = 0;
  };

  PreTokenizer() = default;  // leaves texts whole
  /// Every step works on the pieces of the one before.
  explicit PreTokenizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  /// `starts_text`: no text stood before this one. REQUIRES: valid UTF-8.
  void split(std::string_view text, bool starts_text, Sink& sink) const;

 private:
  class Cutter;
  void run(size_t step_index, std::string_view piece, bool starts_text, Sink& sink) const;

  std::vector<Step> steps_;
};

}  // namespace quire
