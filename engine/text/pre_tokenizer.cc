#include "engine/text/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include "engine/text/text_normalizer.h"
#include "models/strict_json.h"

namespace quire {
namespace {

/// How GPT-2 cuts words, contractions, numbers and white space.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace

/// Turns matches and what lies between them into pieces, holding back one that may still grow.
class PreTokenizer::Cutter {
 public:
  Cutter(const PreTokenizer& owner, size_t step_index, bool starts_text, Sink& sink)
      : owner_(owner),
        behavior_(owner.steps_[step_index].behavior),
        next_step_(step_index + 1),
        starts_text_(starts_text),
        sink_(sink) {}

  /// Ranges follow one another without a gap.
  void take(std::string_view text, size_t begin, size_t end, bool is_match) {
    if (begin == end) return;
    const std::string_view range = text.substr(begin, end - begin);
    if (behavior_ == Behavior::kIsolated) return emit(range, begin);
    if (behavior_ == Behavior::kRemoved) {
      if (!is_match) emit(range, begin);
      return;
    }
    if (!held_.empty() && joins(is_match)) {
      held_ = text.substr(held_begin_, end - held_begin_);
      was_match_ = is_match;
      if (behavior_ != Behavior::kContiguous) flush();
      return;
    }
    flush();
    held_ = range;
    held_begin_ = begin;
    was_match_ = is_match;
  }

  void flush() {
    if (!held_.empty()) emit(held_, held_begin_);
    held_ = {};
  }

 private:
  bool joins(bool is_match) const {
    if (behavior_ == Behavior::kContiguous) return is_match == was_match_;
    return behavior_ == Behavior::kMergedWithPrevious ? is_match && !was_match_
                                                      : !is_match && was_match_;
  }

  void emit(std::string_view piece, size_t begin) {
    owner_.run(next_step_, piece, starts_text_ && begin == 0, sink_);
  }

  const PreTokenizer& owner_;
  Behavior behavior_;
  size_t next_step_;
  bool starts_text_;
  Sink& sink_;
  std::string_view held_;
  size_t held_begin_ = 0;
  bool was_match_ = false;
};

PreTokenizer::PreTokenizer(const nlohmann::json& json, const std::string& source_name) {
  add(json, source_name);
}

void PreTokenizer::add(const nlohmann::json& json, const std::string& source_name) {
  const std::string where = source_name + ": pre_tokenizer";
  const JsonFields fields(json, where);
  const std::string type = fields.optional_string("type").value_or("");
  if (type == "Sequence") {
    fields.refuse_other_keys({"type", "pretokenizers"});
    const nlohmann::json* parts = fields.find("pretokenizers");
    if (parts == nullptr || !parts->is_array()) fields.fail("pretokenizers", "expected a list");
    for (const nlohmann::json& part : *parts) add(part, source_name);
    return;
  }
  if (is_byte_level_) fields.fail("type", "'" + type + "' behind ByteLevel is not supported");
  if (type == "Split") {
    steps_.push_back(read_split(json, where));
  } else if (type == "Digits") {
    steps_.push_back(read_digits(json, where));
  } else if (type == "ByteLevel") {
    steps_.push_back(read_byte_level(json, where));
    is_byte_level_ = true;
  } else if (type == "Metaspace") {
    steps_.push_back(read_metaspace(json, where));
  } else {
    fields.fail("type", "'" + type + "' is not supported");
  }
}

PreTokenizer::Step PreTokenizer::read_split(const nlohmann::json& json, const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"type", "pattern", "behavior", "invert"});
  const nlohmann::json* pattern = fields.find("pattern");
  if (pattern == nullptr) fields.fail("pattern", "missing");
  Step step;
  step.pattern = read_pattern(*pattern, where);
  step.inverts = fields.optional_boolean("invert").value_or(false);
  const std::string behavior = fields.optional_string("behavior").value_or("");
  if (behavior == "Isolated") {
    step.behavior = Behavior::kIsolated;
  } else if (behavior == "Removed") {
    step.behavior = Behavior::kRemoved;
  } else if (behavior == "MergedWithPrevious") {
    step.behavior = Behavior::kMergedWithPrevious;
  } else if (behavior == "MergedWithNext") {
    step.behavior = Behavior::kMergedWithNext;
  } else if (behavior == "Contiguous") {
    step.behavior = Behavior::kContiguous;
  } else {
    fields.fail("behavior", "'" + behavior + "' is not supported");
  }
  return step;
}

PreTokenizer::Step PreTokenizer::read_digits(const nlohmann::json& json, const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"type", "individual_digits"});
  Step step;
  step.pattern.emplace(R"(\p{N})", SplitPattern::Kind::kRegex, where);
  const bool are_single = fields.optional_boolean("individual_digits").value_or(false);
  step.behavior = are_single ? Behavior::kIsolated : Behavior::kContiguous;
  return step;
}

PreTokenizer::Step PreTokenizer::read_byte_level(const nlohmann::json& json,
                                                 const std::string& where) {
  const JsonFields fields(json, where);
  // trim_offsets moves the borders of tokens in the text, not the tokens.
  fields.refuse_other_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  Step step;
  if (fields.optional_boolean("use_regex").value_or(true)) {
    step.pattern.emplace(kGpt2Pattern, SplitPattern::Kind::kRegex, where);
  }
  if (fields.optional_boolean("add_prefix_space").value_or(true)) {
    step.prefix = Prefix::kAlways;
    step.prefix_text = " ";
  }
  return step;
}

PreTokenizer::Step PreTokenizer::read_metaspace(const nlohmann::json& json,
                                                const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"type", "replacement", "prepend_scheme", "split", "add_prefix_space"});
  Step step;
  step.replacement = fields.optional_string("replacement").value_or("");
  if (step.replacement.empty()) fields.fail("replacement", "missing");
  step.prefix_text = step.replacement;
  const std::string scheme = fields.optional_string("prepend_scheme").value_or("always");
  const bool may_prefix = fields.optional_boolean("add_prefix_space").value_or(true);
  if (scheme == "always") {
    step.prefix = may_prefix ? Prefix::kAlways : Prefix::kNever;
  } else if (scheme == "first") {
    step.prefix = Prefix::kFirst;
  } else if (scheme != "never") {
    fields.fail("prepend_scheme", "'" + scheme + "' is not supported");
  }
  if (fields.optional_boolean("split").value_or(true)) {
    step.pattern.emplace(step.replacement, SplitPattern::Kind::kLiteral, where);
    step.behavior = Behavior::kMergedWithNext;
  }
  return step;
}

void PreTokenizer::split(std::string_view text, bool starts_text, Sink& sink) const {
  run(0, text, starts_text, sink);
}

void PreTokenizer::run(size_t step_index, std::string_view piece, bool starts_text,
                       Sink& sink) const {
  if (piece.empty()) return;
  if (step_index == steps_.size()) return sink.on_piece(piece);
  const Step& step = steps_[step_index];
  std::string changed;
  if (!step.replacement.empty()) {
    for (const char c : piece) c == ' ' ? changed += step.replacement : changed += c;
    piece = changed;
  }
  const bool may_prefix =
      step.prefix == Prefix::kAlways || (step.prefix == Prefix::kFirst && starts_text);
  if (may_prefix && !piece.starts_with(step.prefix_text)) {
    changed = step.prefix_text + std::string(piece);
    piece = changed;
  }
  if (!step.pattern) return run(step_index + 1, piece, starts_text, sink);
  Cutter cutter(*this, step_index, starts_text, sink);
  size_t from = 0;
  while (from < piece.size()) {
    const auto match = step.pattern->find(piece, from);
    const size_t begin = match ? match->begin : piece.size();
    const size_t end = match ? match->end : piece.size();
    cutter.take(piece, from, begin, step.inverts);
    cutter.take(piece, begin, end, !step.inverts);
    from = end;
  }
  cutter.flush();
}

}  // namespace quire
