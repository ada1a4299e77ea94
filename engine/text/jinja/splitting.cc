#include <algorithm>
#include <limits>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

const std::string& separator_of(const Value& value) {
  if (!value.is_text()) {
    throw Error("expected a string, not '" + std::string(value.type_name()) + "'");
  }
  if (value.bytes().empty()) throw Error("split needs a separator that is not empty");
  return value.bytes();
}

bool ends_line(char32_t code) {
  return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
         code == 0x2028 || code == 0x2029;
}

Value split_at_space(Runtime& runtime, const MarkedText& text, int64_t max_count) {
  std::vector<Value> parts;
  const auto bytes = std::string_view(text.bytes());
  size_t pos = begin_of_stripped(bytes);
  while (pos < bytes.size()) {
    size_t end = pos;
    if (max_count == 0) {
      end = bytes.size();
      parts.push_back(text.slice(pos, end));
      break;
    }
    while (end < bytes.size() && !is_space(character_at(bytes, end).code)) {
      end += character_at(bytes, end).num_bytes;
    }
    parts.push_back(text.slice(pos, end));
    pos = end + begin_of_stripped(bytes.substr(end));
    --max_count;
  }
  runtime.budget.spend_steps(parts.size());
  return Value::of_list(std::move(parts));
}

/// Where the word that ends at `end` begins.
size_t begin_of_word(std::string_view text, size_t end) {
  size_t begin = end;
  while (begin > 0) {
    const size_t before = begin_of_last(text, begin);
    if (is_space(character_at(text, before).code)) break;
    begin = before;
  }
  return begin;
}

std::vector<Value> split_from_right_at_space(const MarkedText& text, int64_t max_count) {
  std::vector<Value> parts;
  const auto bytes = std::string_view(text.bytes());
  size_t end = end_of_stripped(bytes, 0);
  while (end > 0) {
    const size_t begin = max_count-- == 0 ? 0 : begin_of_word(bytes, end);
    parts.push_back(text.slice(begin, end));
    end = end_of_stripped(bytes.substr(0, begin), 0);
  }
  return parts;
}

std::vector<Value> split_from_right_at(Runtime& runtime, const MarkedText& text,
                                       const std::string& separator, int64_t max_count) {
  // Searching from the left in both turned round takes linear time.
  const std::string turned(text.bytes().rbegin(), text.bytes().rend());
  const std::string wanted(separator.rbegin(), separator.rend());
  std::vector<Value> parts;
  size_t pos = 0;
  for (; max_count > 0; --max_count) {
    const size_t found = find_text(runtime, turned, wanted, pos);
    if (found == std::string::npos) break;
    parts.push_back(text.slice(text.size() - found, text.size() - pos));
    pos = found + wanted.size();
  }
  parts.push_back(text.slice(0, text.size() - pos));
  return parts;
}

}  // namespace

std::vector<Line> lines_of(Runtime& runtime, std::string_view text) {
  runtime.budget.spend_bytes(text.size());
  std::vector<Line> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const Character character = character_at(text, pos);
    size_t next = pos + character.num_bytes;
    if (ends_line(character.code)) {
      if (text.compare(pos, 2, "\r\n") == 0) ++next;
      lines.push_back({begin, pos, next});
      begin = next;
    }
    pos = next;
  }
  if (begin < text.size()) lines.push_back({begin, text.size(), text.size()});
  runtime.budget.spend_steps(lines.size());
  return lines;
}

Value split(Runtime& runtime, const MarkedText& text, const Value* separator, int64_t max_count) {
  if (max_count < 0) max_count = std::numeric_limits<int64_t>::max();
  runtime.budget.spend_bytes(text.size());
  if (separator == nullptr || separator->is_none()) return split_at_space(runtime, text, max_count);
  const std::string& wanted = separator_of(*separator);
  std::vector<Value> parts;
  size_t pos = 0;
  for (; max_count > 0; --max_count) {
    const size_t found = find_text(runtime, text.bytes(), wanted, pos);
    if (found == std::string::npos) break;
    parts.push_back(text.slice(pos, found));
    pos = found + wanted.size();
  }
  parts.push_back(text.slice(pos, text.size()));
  runtime.budget.spend_steps(parts.size());
  return Value::of_list(std::move(parts));
}

Value split_from_right(Runtime& runtime, const MarkedText& text, const Value* separator,
                       int64_t max_count) {
  if (max_count < 0) max_count = std::numeric_limits<int64_t>::max();
  runtime.budget.spend_bytes(text.size());
  const bool is_at_space = separator == nullptr || separator->is_none();
  std::vector<Value> parts =
      is_at_space ? split_from_right_at_space(text, max_count)
                  : split_from_right_at(runtime, text, separator_of(*separator), max_count);
  runtime.budget.spend_steps(parts.size());
  std::reverse(parts.begin(), parts.end());
  return Value::of_list(std::move(parts));
}

}  // namespace quire::jinja
