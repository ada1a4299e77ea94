// ICU would do as well, but sorts a run of accents in quadratic time; utf8proc lets the sorting be
// done here.
#include "engine/text/bpe/text_normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <stdexcept>

#include "engine/text/utf8.h"

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

void append_normal_form(std::string_view text, utf8proc_option_t form,
                        std::vector<Character>& characters, std::string& out) {
  constexpr size_t kMaxDecomposed = 32;  // no character becomes more than 18
  characters.clear();
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
  for (const Character character : characters) append(character, out);
}

/// ASCII stays as it is, and no character joins an ASCII one behind it: a run of other characters
/// is changed together with the one character before it, and by nothing else.
std::string to_normal_form(std::string_view text, bool composes, bool is_compatible) {
  const auto form =
      static_cast<utf8proc_option_t>((composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                     UTF8PROC_STABLE | (is_compatible ? UTF8PROC_COMPAT : 0));
  const auto is_other = [](char c) { return (c & 0x80) != 0; };
  std::vector<Character> characters;
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const auto run = std::find_if(text.begin(), text.end(), is_other);
    const auto run_end = std::find_if_not(run, text.end(), is_other);
    const auto run_begin = run == text.begin() || run == text.end() ? run : run - 1;
    result.append(text.begin(), run_begin);
    if (run_begin != run_end) append_normal_form({run_begin, run_end}, form, characters, result);
    text = {run_end, text.end()};
  }
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
    const size_t start = begin_of_last_character(text);
    if (!is_white_space(static_cast<char32_t>(first_character(text.substr(start))))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  result.reserve(text.size());
  size_t done = 0;
  for (size_t pos; (pos = text.find(from, done)) != std::string_view::npos;) {
    result += text.substr(done, pos - done);
    result += to;
    done = pos + from.size();
  }
  return result += text.substr(done);
}

std::string TextNormalizer::apply(const Step& step, std::string text) {
  switch (step.kind) {
    case Kind::kComposed:
    case Kind::kDecomposed:
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
