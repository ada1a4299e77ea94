#include <algorithm>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/methods.h"

namespace quire::jinja {
namespace {

const std::string& text_argument(const Value* value) {
  if (value == nullptr || !value->is_text()) throw Error("expected a string as argument");
  return value->bytes();
}

int64_t whole_argument(const Value* value, int64_t fallback) {
  return value != nullptr ? value->whole_number() : fallback;
}

template <bool kLeft, bool kRight>
Value strip_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"chars"});
  runtime.budget.spend_bytes(self.bytes().size());
  return strip(runtime, self.as_text(), bound[0], kLeft, kRight);
}

template <Case kWanted>
Value case_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind({});
  return with_case(runtime, self.as_text(), kWanted);
}

/// What find and its like look at: text[start:end].
struct Window {
  std::string_view bytes;
  size_t begin;             // in bytes of the whole text
  int64_t first;            // in characters of the whole text
  bool is_outside = false;  // start lies behind the end: not even "" is found there
};

Window window_of(Runtime& runtime, const Value& self, const Value* start, const Value* end) {
  const auto text = std::string_view(self.bytes());
  const bool has_start = start != nullptr && !start->is_none();
  const bool has_end = end != nullptr && !end->is_none();
  if (!has_start && !has_end) return {text, 0, 0};
  const int64_t length = length_of(runtime, self);
  const auto place = [&](int64_t at) { return at < 0 ? std::max<int64_t>(at + length, 0) : at; };
  const int64_t first = has_start ? place(whole_argument(start, 0)) : 0;
  const int64_t last = has_end ? std::min(place(whole_argument(end, 0)), length) : length;
  if (first > last) return {{}, 0, 0, true};
  const size_t begin = byte_of_character(text, static_cast<size_t>(first));
  const size_t size = byte_of_character(text.substr(begin), static_cast<size_t>(last - first));
  return {text.substr(begin, size), begin, first};
}

bool has_affix(Runtime& runtime, const Window& window, const std::string& affix, bool at_end) {
  runtime.budget.spend_steps(1);
  runtime.budget.spend_reading(affix.size());
  const std::string_view text = window.bytes;
  return !window.is_outside && text.size() >= affix.size() &&
         text.compare(at_end ? text.size() - affix.size() : 0, affix.size(), affix) == 0;
}

template <bool kAtEnd>
Value affix_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({kAtEnd ? "suffix" : "prefix", "start", "end"});
  const Window window = window_of(runtime, self, bound[1], bound[2]);
  if (bound[0] != nullptr && bound[0]->is_list()) {
    const auto& items = bound[0]->items();
    return Value::of_bool(std::any_of(items.begin(), items.end(), [&](const Value& item) {
      return has_affix(runtime, window, text_argument(&item), kAtEnd);
    }));
  }
  return Value::of_bool(has_affix(runtime, window, text_argument(bound[0]), kAtEnd));
}

template <bool kAtEnd>
Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({kAtEnd ? "suffix" : "prefix"});
  const std::string& affix = text_argument(bound[0]);
  const MarkedText& text = self.as_text();
  if (!has_affix(runtime, {text.bytes(), 0, 0}, affix, kAtEnd)) return self;
  runtime.budget.spend_bytes(text.size());
  return kAtEnd ? text.slice(0, text.size() - affix.size()) : text.slice(affix.size(), text.size());
}

template <bool kFromRight>
Value split_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sep", "maxsplit"});
  const int64_t max_count = whole_argument(bound[1], -1);
  return kFromRight ? split_from_right(runtime, self.as_text(), bound[0], max_count)
                    : split(runtime, self.as_text(), bound[0], max_count);
}

Value splitlines_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"keepends"});
  const bool keeps_ends = bound[0] != nullptr && bound[0]->is_true();
  std::vector<Value> parts;
  for (const Line& line : lines_of(runtime, self.bytes())) {
    parts.push_back(self.as_text().slice(line.begin, keeps_ends ? line.next : line.end));
  }
  return Value::of_list(std::move(parts));
}

template <bool kFromRight>
Value partition_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sep"});
  const std::string& separator = text_argument(bound[0]);
  if (separator.empty()) throw Error("partition needs a separator that is not empty");
  const MarkedText& text = self.as_text();
  runtime.budget.spend_bytes(text.size());
  const size_t found = kFromRight ? find_last_text(runtime, text.bytes(), separator)
                                  : find_text(runtime, text.bytes(), separator, 0);
  if (found == std::string::npos) {
    return kFromRight ? Value::of_tuple({MarkedText(), MarkedText(), self})
                      : Value::of_tuple({self, MarkedText(), MarkedText()});
  }
  const size_t behind = found + separator.size();
  return Value::of_tuple({text.slice(0, found), *bound[0], text.slice(behind, text.size())});
}

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"old", "new", "count"});
  if (bound[0] == nullptr || bound[1] == nullptr) throw Error("replace needs two strings");
  return replace(runtime, self.as_text(), *bound[0], *bound[1], whole_argument(bound[2], -1));
}

/// The character at which it is found; -1, or an Error where it must be there, if it is not.
template <bool kFromRight, bool kMustBeThere>
Value find_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sub", "start", "end"});
  const Window window = window_of(runtime, self, bound[1], bound[2]);
  const std::string& wanted = text_argument(bound[0]);
  size_t found = std::string::npos;
  if (!window.is_outside) {
    found = kFromRight ? find_last_text(runtime, window.bytes, wanted)
                       : find_text(runtime, window.bytes, wanted, 0);
  }
  if (found != std::string::npos) {
    const auto before = static_cast<int64_t>(count_characters(window.bytes.substr(0, found)));
    return Value::of_int(window.first + before);
  }
  if (kMustBeThere) throw Error("the text is not in the other");
  return Value::of_int(-1);
}

Value count_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sub", "start", "end"});
  const Window window = window_of(runtime, self, bound[1], bound[2]);
  const std::string& wanted = text_argument(bound[0]);
  if (window.is_outside) return Value::of_int(0);
  if (wanted.empty()) {
    runtime.budget.spend_reading(window.bytes.size());
    return Value::of_int(static_cast<int64_t>(count_characters(window.bytes)) + 1);
  }
  int64_t count = 0;
  for (size_t pos = find_text(runtime, window.bytes, wanted, 0); pos != std::string::npos;
       pos = find_text(runtime, window.bytes, wanted, pos + wanted.size())) {
    ++count;
  }
  return Value::of_int(count);
}

Value format_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return format_braces(runtime, self.as_text(), arguments);
}

Value join_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"iterable"});
  if (bound[0] == nullptr) throw Error("join needs a list");
  const std::vector<Value> items = items_of(runtime, *bound[0]);
  for (const Value& item : items) text_argument(&item);
  return join(runtime, items, self.as_text());
}

template <Side kSide>
Value pad_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"width", "fillchar"});
  if (bound[0] == nullptr) throw Error("expected a width");
  if (bound[1] != nullptr) text_argument(bound[1]);
  return padded(runtime, self.as_text(), kSide, whole_argument(bound[0], 0),
                bound[1] != nullptr ? bound[1]->as_text() : MarkedText(" "));
}

/// Zeros go behind a sign.
Value zfill_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"width"});
  if (bound[0] == nullptr) throw Error("expected a width");
  const MarkedText& text = self.as_text();
  const bool has_sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+');
  MarkedText out = text.slice(0, has_sign ? 1 : 0);
  const int64_t width = whole_argument(bound[0], 0);
  runtime.budget.spend_bytes(text.size());
  out.append(padded(runtime, text.slice(out.size(), text.size()), Side::kLeft,
                    has_sign && width > 0 ? width - 1 : width, MarkedText("0")));
  return out;
}

template <Case kCase>
Value is_case_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind({});
  return Value::of_bool(is_in_case(runtime, self.bytes(), kCase));
}

/// Whether there are characters, and all are of that kind.
template <bool (*kIsOfKind)(char32_t)>
Value is_all_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind({});
  const std::string& text = self.bytes();
  runtime.budget.spend_reading(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Character character = character_at(text, pos);
    if (!kIsOfKind(character.code)) return Value::of_bool(false);
    pos += character.num_bytes;
  }
  return Value::of_bool(!text.empty());
}

bool is_alphanumeric(char32_t code) { return is_letter(code) || is_number(code); }

}  // namespace

const MethodTable& text_methods() {
  static const MethodTable kTable = {{"strip", strip_method<true, true>},
                                     {"lstrip", strip_method<true, false>},
                                     {"rstrip", strip_method<false, true>},
                                     {"upper", case_method<Case::kUpper>},
                                     {"lower", case_method<Case::kLower>},
                                     {"title", case_method<Case::kTitle>},
                                     {"capitalize", case_method<Case::kCapitalized>},
                                     {"startswith", affix_method<false>},
                                     {"endswith", affix_method<true>},
                                     {"removeprefix", remove_affix<false>},
                                     {"removesuffix", remove_affix<true>},
                                     {"split", split_method<false>},
                                     {"rsplit", split_method<true>},
                                     {"splitlines", splitlines_method},
                                     {"partition", partition_method<false>},
                                     {"rpartition", partition_method<true>},
                                     {"replace", replace_method},
                                     {"find", find_method<false, false>},
                                     {"rfind", find_method<true, false>},
                                     {"index", find_method<false, true>},
                                     {"rindex", find_method<true, true>},
                                     {"count", count_method},
                                     {"format", format_method},
                                     {"join", join_method},
                                     {"ljust", pad_method<Side::kRight>},
                                     {"rjust", pad_method<Side::kLeft>},
                                     {"center", pad_method<Side::kBoth>},
                                     {"zfill", zfill_method},
                                     {"islower", is_case_method<Case::kLower>},
                                     {"isupper", is_case_method<Case::kUpper>},
                                     {"isspace", is_all_method<is_space>},
                                     {"isdigit", is_all_method<is_digit>},
                                     {"isdecimal", is_all_method<is_digit>},
                                     {"isnumeric", is_all_method<is_number>},
                                     {"isalpha", is_all_method<is_letter>},
                                     {"isalnum", is_all_method<is_alphanumeric>}};
  return kTable;
}

}  // namespace quire::jinja
