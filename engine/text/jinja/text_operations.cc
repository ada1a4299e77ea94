#include <cstring>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/letter_case.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

bool is_among(std::string_view characters, std::string_view one) {
  for (size_t pos = 0; pos < characters.size();) {
    const size_t length = character_at(characters, pos).num_bytes;
    if (characters.substr(pos, length) == one) return true;
    pos += length;
  }
  return false;
}

const std::string& bytes_of(const Value& value) {
  if (!value.is_text())
    throw Error("expected a string, not '" + std::string(value.type_name()) + "'");
  return value.bytes();
}

/// In the filter title.
bool separates_words(char32_t code) {
  return is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
}

/// Walks the characters of a text and writes them in one of the cases.
class CaseMapper {
 public:
  CaseMapper(std::string_view text, Case wanted) : text_(text), wanted_(wanted) {}

  /// Of the character at `pos`. REQUIRES: that each is asked for once, in order.
  void append_mapped(size_t pos, std::string& out) {
    const Character character = character_at(text_, pos);
    const char32_t code = character.code;
    const bool is_of_words = wanted_ == Case::kTitleOfWords;
    const bool begins = wanted_ == Case::kTitle ? !follows_cased_ : begins_;
    if (wanted_ == Case::kUpper || (is_of_words && begins)) {
      append_upper(code, out);
    } else if (wanted_ != Case::kLower && begins) {
      append_title(code, out);
    } else if (code == 0x3A3 && ends_word(pos + character.num_bytes)) {
      append_utf8(0x3C2, out);
    } else {
      append_lower(code, out);
    }
    follows_cased_ = is_cased(code);
    // The title of a word is made of its first letter and, apart from that, of the rest.
    if (is_of_words && begins) {
      is_in_word_ = false;
    } else if (!is_case_ignorable(code)) {
      is_in_word_ = follows_cased_;
    }
    begins_ = is_of_words && separates_words(code);
  }

 private:
  /// Whether a sigma before `pos` is the last letter of a word that has others.
  bool ends_word(size_t pos) const {
    if (!is_in_word_) return false;
    while (pos < text_.size()) {
      const Character character = character_at(text_, pos);
      if (!is_case_ignorable(character.code)) return !is_cased(character.code);
      pos += character.num_bytes;
    }
    return true;
  }

  std::string_view text_;
  Case wanted_;
  bool begins_ = true;
  bool follows_cased_ = false;
  bool is_in_word_ = false;  // behind a letter that has a case, and signs that do not end words
};

}  // namespace

size_t find_text(Runtime& runtime, std::string_view text, std::string_view wanted, size_t from) {
  // The library's find is quadratic where a text repeats itself; memmem is not.
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  const auto* begin = static_cast<const char*>(found);
  const size_t at = begin == nullptr ? text.npos : static_cast<size_t>(begin - text.data());
  const size_t end = begin == nullptr ? text.size() : at;
  runtime.budget.spend_steps(1);
  runtime.budget.spend_reading(end - from + wanted.size());
  return at;
}

size_t find_last_text(Runtime& runtime, std::string_view text, std::string_view wanted) {
  runtime.budget.spend_bytes(text.size() + wanted.size());
  // Searching from the left in both turned round takes linear time.
  const std::string turned(text.rbegin(), text.rend());
  const size_t found = find_text(runtime, turned, std::string(wanted.rbegin(), wanted.rend()), 0);
  return found == text.npos ? found : text.size() - found - wanted.size();
}

MarkedText strip(Runtime& runtime, const MarkedText& text, const Value* characters, bool left,
                 bool right) {
  const auto bytes = std::string_view(text.bytes());
  const bool is_default = characters == nullptr || characters->is_none();
  size_t begin = 0, end = bytes.size();
  if (is_default) {
    if (left) begin = begin_of_stripped(bytes);
    if (right) end = end_of_stripped(bytes, begin);
    return text.slice(begin, end);
  }
  const std::string& set = bytes_of(*characters);
  const size_t steps_of_character = 1 + set.size() / 64;
  while (left && begin < end) {
    const size_t length = character_at(bytes, begin).num_bytes;
    runtime.budget.spend_steps(steps_of_character);
    if (!is_among(set, bytes.substr(begin, length))) break;
    begin += length;
  }
  while (right && begin < end) {
    const size_t last = begin_of_last(bytes, end);
    runtime.budget.spend_steps(steps_of_character);
    if (!is_among(set, bytes.substr(last, end - last))) break;
    end = last;
  }
  return text.slice(begin, end);
}

MarkedText replace(Runtime& runtime, const MarkedText& text, const Value& from, const Value& to,
                   int64_t max_count) {
  const std::string& wanted = bytes_of(from);
  const std::string& bytes = text.bytes();
  bytes_of(to);
  MarkedText out;
  size_t done = 0;
  const auto put = [&](size_t end) {
    runtime.budget.spend_bytes(to.bytes().size() + 1);
    out.append(text.slice(done, end));
    out.append(to.as_text());
    done = end;
  };
  runtime.budget.spend_bytes(bytes.size());
  for (size_t pos = 0; max_count != 0; --max_count) {
    const size_t found = find_text(runtime, bytes, wanted, pos);
    if (found == std::string::npos) break;
    put(found);
    done = found + wanted.size();
    if (wanted.empty() && found == bytes.size()) break;
    pos = wanted.empty() ? found + character_at(bytes, found).num_bytes : done;
  }
  out.append(text.slice(done, bytes.size()));
  return out;
}

MarkedText join(Runtime& runtime, const std::vector<Value>& items, const MarkedText& separator) {
  MarkedText out;
  for (size_t i = 0; i < items.size(); ++i) {
    const MarkedText text = text_of(runtime, items[i]);
    runtime.budget.spend_bytes(text.size() + separator.size());
    if (i > 0) out.append(separator);
    out.append(text);
  }
  return out;
}

MarkedText with_case(Runtime& runtime, const MarkedText& text, Case wanted) {
  const std::string& bytes = text.bytes();
  constexpr size_t kMaxGrowth = 3;
  runtime.budget.spend_bytes(bytes.size() * kMaxGrowth);
  CaseMapper mapper(bytes, wanted);
  MarkedText out;
  std::string mapped;
  for (size_t pos = 0; pos < bytes.size();) {
    const Character character = character_at(bytes, pos);
    const size_t end = pos + character.num_bytes;
    mapped.clear();
    mapper.append_mapped(pos, mapped);
    // A byte that is no character stays what it is.
    const bool is_broken = character.num_bytes == 1 && character.code >= 0x80;
    out.append_made_from(is_broken ? std::string_view(bytes).substr(pos, 1) : mapped, text,
                         {pos, end});
    pos = end;
  }
  return out;
}

bool is_in_case(Runtime& runtime, std::string_view text, Case wanted) {
  runtime.budget.spend_reading(text.size());
  bool has_cased = false;
  for (size_t pos = 0; pos < text.size();) {
    const Character character = character_at(text, pos);
    const char32_t code = character.code;
    if ((wanted == Case::kLower ? to_lower(code) : to_upper(code)) != code) return false;
    has_cased = has_cased || is_cased(code);
    pos += character.num_bytes;
  }
  return has_cased;
}

MarkedText padded(Runtime& runtime, const MarkedText& text, Side side, int64_t width,
                  const MarkedText& fill) {
  if (length_of(runtime, Value(fill)) != 1) throw Error("text is filled up with one character");
  const int64_t length = length_of(runtime, Value(text));
  if (width <= length) return text;
  const auto missing = static_cast<size_t>(width - length);
  if (missing > runtime.budget.limits().max_built_bytes) {
    throw Error("a text of " + std::to_string(width) + " characters is too long");
  }
  runtime.budget.spend_bytes(text.size() + missing * fill.size());
  // Of an odd number Python's center puts one more on the left where the width is odd.
  const size_t half = missing / 2 + (missing & static_cast<size_t>(width) & 1);
  const size_t before = side == Side::kLeft ? missing : side == Side::kBoth ? half : 0;
  MarkedText out;
  for (size_t i = 0; i < before; ++i) out.append(fill);
  out.append(text);
  for (size_t i = before; i < missing; ++i) out.append(fill);
  return out;
}

MarkedText indent(Runtime& runtime, const MarkedText& text, const MarkedText& margin, bool first,
                  bool blank) {
  MarkedText out;
  // Another newline, as Jinja has it: an end of line at the end begins a line.
  std::string ended = text.bytes();
  ended += '\n';
  bool is_first = true;
  for (const Line& line : lines_of(runtime, ended)) {
    const bool is_wanted = is_first ? first : blank || line.end > line.begin;
    runtime.budget.spend_bytes(line.end - line.begin + margin.size() + 1);
    if (!is_first) out.append("\n");
    if (is_wanted) out.append(margin);
    out.append(text.slice(line.begin, line.end));
    is_first = false;
  }
  return out;
}

}  // namespace quire::jinja
