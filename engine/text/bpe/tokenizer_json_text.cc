#include "engine/text/bpe/tokenizer_json_text.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

/// {"String": …} or {"Regex": …}.
SplitPattern read_pattern(const Json& json, const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"String", "Regex"});
  if (const auto text = fields.optional_string("String")) {
    return {*text, SplitPattern::Kind::kLiteral, where};
  }
  if (const auto regex = fields.optional_string("Regex")) {
    return {*regex, SplitPattern::Kind::kRegex, where};
  }
  throw LoadError(where + ": neither String nor Regex");
}

void add_normalizer(const Json& json, const std::string& source_name,
                    std::vector<TextNormalizer::Step>& steps) {
  const std::string where = source_name + ": normalizer";
  const JsonFields fields(json, where);
  const std::string type = fields.optional_string("type").value_or("");
  if (type == "Sequence") {
    fields.refuse_other_keys({"type", "normalizers"});
    const Json* parts = fields.find("normalizers");
    if (parts == nullptr || !parts->is_array()) fields.fail("normalizers", "expected a list");
    for (const Json& part : *parts) add_normalizer(part, source_name, steps);
    return;
  }
  using Kind = TextNormalizer::Kind;
  TextNormalizer::Step step{};
  if (type == "NFC" || type == "NFKC" || type == "NFD" || type == "NFKD") {
    fields.refuse_other_keys({"type"});
    step.kind = type.back() == 'C' ? Kind::kComposed : Kind::kDecomposed;
    step.is_compatible = type.size() == 4;
  } else if (type == "Lowercase") {
    fields.refuse_other_keys({"type"});
    step.kind = Kind::kLowercase;
  } else if (type == "Prepend") {
    fields.refuse_other_keys({"type", "prepend"});
    step.kind = Kind::kPrepend;
    step.content = fields.optional_string("prepend").value_or("");
  } else if (type == "Replace") {
    fields.refuse_other_keys({"type", "pattern", "content"});
    step.kind = Kind::kReplace;
    const Json* pattern = fields.find("pattern");
    if (pattern == nullptr) fields.fail("pattern", "missing");
    step.pattern = read_pattern(*pattern, where);
    step.content = fields.optional_string("content").value_or("");
  } else if (type == "Strip") {
    fields.refuse_other_keys({"type", "strip_left", "strip_right"});
    step.kind = Kind::kStrip;
    step.strips_left = fields.optional_boolean("strip_left").value_or(false);
    step.strips_right = fields.optional_boolean("strip_right").value_or(false);
  } else {
    fields.fail("type", "'" + type + "' is not supported");
  }
  steps.push_back(std::move(step));
}

PreTokenizer::Step read_split(const Json& json, const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"type", "pattern", "behavior", "invert"});
  const Json* pattern = fields.find("pattern");
  if (pattern == nullptr) fields.fail("pattern", "missing");
  PreTokenizer::Step step;
  step.pattern = read_pattern(*pattern, where);
  step.inverts = fields.optional_boolean("invert").value_or(false);
  const std::string behavior = fields.optional_string("behavior").value_or("");
  if (behavior == "Isolated") {
    step.behavior = PreTokenizer::Behavior::kIsolated;
  } else if (behavior == "Removed") {
    step.behavior = PreTokenizer::Behavior::kRemoved;
  } else if (behavior == "MergedWithPrevious") {
    step.behavior = PreTokenizer::Behavior::kMergedWithPrevious;
  } else if (behavior == "MergedWithNext") {
    step.behavior = PreTokenizer::Behavior::kMergedWithNext;
  } else if (behavior == "Contiguous") {
    step.behavior = PreTokenizer::Behavior::kContiguous;
  } else {
    fields.fail("behavior", "'" + behavior + "' is not supported");
  }
  return step;
}

PreTokenizer::Step read_digits(const Json& json, const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"type", "individual_digits"});
  PreTokenizer::Step step;
  step.pattern.emplace(R"(\p{N})", SplitPattern::Kind::kRegex, where);
  const bool are_single = fields.optional_boolean("individual_digits").value_or(false);
  step.behavior =
      are_single ? PreTokenizer::Behavior::kIsolated : PreTokenizer::Behavior::kContiguous;
  return step;
}

PreTokenizer::Step read_byte_level(const Json& json, const std::string& where) {
  const JsonFields fields(json, where);
  // trim_offsets moves the borders of tokens in the text, not the tokens.
  fields.refuse_other_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  PreTokenizer::Step step;
  if (fields.optional_boolean("use_regex").value_or(true)) {
    step.pattern.emplace(PreTokenizer::kGpt2Pattern, SplitPattern::Kind::kRegex, where);
  }
  if (fields.optional_boolean("add_prefix_space").value_or(true)) {
    step.prefix = PreTokenizer::Prefix::kAlways;
    step.prefix_text = " ";
  }
  return step;
}

PreTokenizer::Step read_metaspace(const Json& json, const std::string& where) {
  const JsonFields fields(json, where);
  fields.refuse_other_keys({"type", "replacement", "prepend_scheme", "split", "add_prefix_space"});
  PreTokenizer::Step step;
  step.replacement = fields.optional_string("replacement").value_or("");
  if (step.replacement.empty()) fields.fail("replacement", "missing");
  step.prefix_text = step.replacement;
  const std::string scheme = fields.optional_string("prepend_scheme").value_or("always");
  const bool may_prefix = fields.optional_boolean("add_prefix_space").value_or(true);
  if (scheme == "always") {
    step.prefix = may_prefix ? PreTokenizer::Prefix::kAlways : PreTokenizer::Prefix::kNever;
  } else if (scheme == "first") {
    step.prefix = PreTokenizer::Prefix::kFirst;
  } else if (scheme != "never") {
    fields.fail("prepend_scheme", "'" + scheme + "' is not supported");
  }
  if (fields.optional_boolean("split").value_or(true)) {
    step.pattern.emplace(step.replacement, SplitPattern::Kind::kLiteral, where);
    step.behavior = PreTokenizer::Behavior::kMergedWithNext;
  }
  return step;
}

/// `is_byte_level`: of the steps so far.
void add_pre_tokenizer(const Json& json, const std::string& source_name,
                       std::vector<PreTokenizer::Step>& steps, bool& is_byte_level) {
  const std::string where = source_name + ": pre_tokenizer";
  const JsonFields fields(json, where);
  const std::string type = fields.optional_string("type").value_or("");
  if (type == "Sequence") {
    fields.refuse_other_keys({"type", "pretokenizers"});
    const Json* parts = fields.find("pretokenizers");
    if (parts == nullptr || !parts->is_array()) fields.fail("pretokenizers", "expected a list");
    for (const Json& part : *parts) add_pre_tokenizer(part, source_name, steps, is_byte_level);
    return;
  }
  if (is_byte_level) fields.fail("type", "'" + type + "' behind ByteLevel is not supported");
  if (type == "Split") {
    steps.push_back(read_split(json, where));
  } else if (type == "Digits") {
    steps.push_back(read_digits(json, where));
  } else if (type == "ByteLevel") {
    steps.push_back(read_byte_level(json, where));
    is_byte_level = true;
  } else if (type == "Metaspace") {
    steps.push_back(read_metaspace(json, where));
  } else {
    fields.fail("type", "'" + type + "' is not supported");
  }
}

}  // namespace

TextNormalizer read_text_normalizer(const Json& json, const std::string& source_name) {
  std::vector<TextNormalizer::Step> steps;
  add_normalizer(json, source_name, steps);
  return TextNormalizer(std::move(steps));
}

PreTokenizerJson read_pre_tokenizer(const Json& json, const std::string& source_name) {
  std::vector<PreTokenizer::Step> steps;
  bool is_byte_level = false;
  add_pre_tokenizer(json, source_name, steps, is_byte_level);
  return {PreTokenizer(std::move(steps)), is_byte_level};
}

}  // namespace quire
