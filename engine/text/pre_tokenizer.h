#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/split_pattern.h"

namespace quire {

/// The "pre_tokenizer" of a tokenizer.json: cuts text into the pieces that are encoded one by one.
/// Split, Digits, ByteLevel, Metaspace and Sequences of them. Pieces stay text: a byte-level model
/// takes their bytes as symbols. Immutable, thread-safe.
class PreTokenizer {
 public:
  /// Takes the pieces in their order.
  class Sink {
   public:
    virtual ~Sink() = default;
    /// `piece` is not empty and valid during the call alone.
    virtual void on_piece(std::string_view piece) = 0;
  };

  PreTokenizer() = default;
  /// Throws LoadError, beginning with `source_name`, for what is not supported.
  PreTokenizer(const nlohmann::json& json, const std::string& source_name);

  /// Whether tokens are sequences of bytes. Then ByteLevel is the last step.
  bool is_byte_level() const { return is_byte_level_; }

  /// `starts_text`: no text stood before this one. REQUIRES: valid UTF-8.
  void split(std::string_view text, bool starts_text, Sink& sink) const;

 private:
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prefix { kNever, kFirst, kAlways };
  struct Step {
    std::optional<SplitPattern> pattern;  // none: the text stays whole
    Behavior behavior = Behavior::kIsolated;
    bool inverts = false;     // what the pattern leaves counts as the match
    std::string replacement;  // of spaces, before all else; empty: they stay
    Prefix prefix = Prefix::kNever;
    std::string prefix_text;  // put before a piece that does not start with it
  };
  class Cutter;

  void add(const nlohmann::json& json, const std::string& source_name);
  static Step read_split(const nlohmann::json& json, const std::string& where);
  static Step read_digits(const nlohmann::json& json, const std::string& where);
  static Step read_byte_level(const nlohmann::json& json, const std::string& where);
  static Step read_metaspace(const nlohmann::json& json, const std::string& where);
  void run(size_t step_index, std::string_view piece, bool starts_text, Sink& sink) const;

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace quire
