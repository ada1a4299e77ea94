// ICU would do as well, but sorts a run of accents in quadratic time; utf8proc lets the sorting be
// done here.
#include "engine/text/text_normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "engine/text/utf8.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Character = utf8proc_int32_t;

constexpr Character kCapitalDottedI = 0x130;

Character first_character(std::string_view text) {
  Character character = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size(), 4)), &character);
  return character;
}

void append(Character character, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t num_bytes = utf8proc_encode_char(character, bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(num_bytes));
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; });
}

/// Every run of accents in the order of its classes, accents of one class as they stand.
void sort_accents(std::vector<Character>& characters) {
  const auto class_of = [](Character c) { return utf8proc_get_property(c)->combining_class; };
  for (size_t begin = 0; begin < characters.size(); ++begin) {
    if (class_of(characters[begin]) == 0) continue;
    size_t end = begin + 1;
    while (end < characters.size() && class_of(characters[end]) != 0) ++end;
    std::stable_sort(characters.begin() + static_cast<std::ptrdiff_t>(begin),
                     characters.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](Character a, Character b) { return class_of(a) < class_of(b); });
    begin = end;
  }
}

std::string to_normal_form(std::string_view text, bool composes, bool is_compatible) {
  constexpr size_t kMaxDecomposed = 32;  // no character becomes more than 18
  const auto form =
      static_cast<utf8proc_option_t>((composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                     UTF8PROC_STABLE | (is_compatible ? UTF8PROC_COMPAT : 0));
  std::vector<Character> characters;
  characters.reserve(text.size());
  while (!text.empty()) {
    Character parts[kMaxDecomposed];
    const auto num_parts =
        utf8proc_decompose_char(first_character(text), parts, kMaxDecomposed, form, nullptr);
    if (num_parts < 0) throw std::runtime_error("tokenizer: a character cannot be normalised");
    characters.insert(characters.end(), parts, parts + num_parts);
    text.remove_prefix(classify_utf8(text).num_bytes);
  }
  sort_accents(characters);
  const auto num_composed = utf8proc_normalize_utf32(
      characters.data(), static_cast<utf8proc_ssize_t>(characters.size()), form);
  characters.resize(static_cast<size_t>(num_composed));
  std::string result;
  for (const Character character : characters) append(character, result);
  return result;
}

std::string to_lowercase(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const Character character = first_character(text);
    text.remove_prefix(classify_utf8(text).num_bytes);
    if (character == kCapitalDottedI) {
      result += "i\u0307";  // the one that becomes two
    } else {
      append(utf8proc_tolower(character), result);
    }
  }
  return result;
}

std::string replace_all(std::string_view text, const SplitPattern& pattern,
                        std::string_view content) {
  std::string result;
  result.reserve(text.size());
  size_t from = 0;
  while (const auto match = pattern.find(text, from)) {
    result += text.substr(from, match->begin - from);
    result += content;
    from = match->end;
  }
  return result += text.substr(from);
}

}  // namespace

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view strip_left(std::string_view text) {
  while (!text.empty() && is_white_space(static_cast<char32_t>(first_character(text)))) {
    text.remove_prefix(classify_utf8(text).num_bytes);
  }
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (text[start] & 0xC0) == 0x80) --start;
    if (!is_white_space(static_cast<char32_t>(first_character(text.substr(start))))) break;
    text = text.substr(0, start);
  }
  return text;
}

SplitPattern read_pattern(const nlohmann::json& json, const std::string& where) {
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

TextNormalizer::TextNormalizer(const nlohmann::json& json, const std::string& source_name) {
  add(json, source_name);
}

void TextNormalizer::add(const nlohmann::json& json, const std::string& source_name) {
  const std::string where = source_name + ": normalizer";
  const JsonFields fields(json, where);
  const std::string type = fields.optional_string("type").value_or("");
  if (type == "Sequence") {
    fields.refuse_other_keys({"type", "normalizers"});
    const nlohmann::json* parts = fields.find("normalizers");
    if (parts == nullptr || !parts->is_array()) fields.fail("normalizers", "expected a list");
    for (const nlohmann::json& part : *parts) add(part, source_name);
    return;
  }
  Step step{};
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
    const nlohmann::json* pattern = fields.find("pattern");
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
  steps_.push_back(std::move(step));
}

std::string TextNormalizer::apply(const Step& step, std::string text) {
  switch (step.kind) {
    case Kind::kComposed:
    case Kind::kDecomposed:
      if (is_ascii(text)) return text;
      return to_normal_form(text, step.kind == Kind::kComposed, step.is_compatible);
    case Kind::kLowercase:
      return to_lowercase(text);
    case Kind::kPrepend:
      return text.empty() ? text : step.content + text;
    case Kind::kReplace:
      return replace_all(text, *step.pattern, step.content);
    case Kind::kStrip:
      if (step.strips_left) text = std::string(strip_left(text));
      if (step.strips_right) text = std::string(strip_right(text));
      return text;
  }
  return text;
}

std::string TextNormalizer::normalize(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) result = apply(step, std::move(result));
  return result;
}

}  // namespace quire
