#include <algorithm>
#include <map>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

using Method = Value (*)(Runtime&, const Value& self, const Arguments&);
using MethodTable = std::map<std::string_view, Method>;

const std::string& text_argument(const Value* value) {
  if (value == nullptr || !value->is_text()) throw Error("expected a string as argument");
  return value->bytes();
}

int64_t count_argument(const Value* value) {
  if (value == nullptr) return -1;
  if (!value->is_number() || value->is_float()) throw Error("expected a whole number as argument");
  return value->as_int();
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

bool has_affix(Runtime& runtime, const std::string& text, const std::string& affix, bool at_end) {
  runtime.budget.spend_steps(1);
  runtime.budget.spend_reading(affix.size());
  return text.size() >= affix.size() &&
         text.compare(at_end ? text.size() - affix.size() : 0, affix.size(), affix) == 0;
}

template <bool kAtEnd>
Value affix_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({kAtEnd ? "suffix" : "prefix"});
  if (bound[0] != nullptr && bound[0]->is_list()) {
    const auto& items = bound[0]->items();
    return Value::of_bool(std::any_of(items.begin(), items.end(), [&](const Value& item) {
      return has_affix(runtime, self.bytes(), text_argument(&item), kAtEnd);
    }));
  }
  return Value::of_bool(has_affix(runtime, self.bytes(), text_argument(bound[0]), kAtEnd));
}

Value split_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sep", "maxsplit"});
  return split(runtime, self.as_text(), bound[0], count_argument(bound[1]));
}

Value splitlines_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind({});
  std::vector<Value> lines;
  const MarkedText& text = self.as_text();
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = std::min(text.bytes().find_first_of("\r\n", pos), text.size());
    lines.push_back(text.slice(pos, end));
    pos = end + (text.bytes().compare(end, 2, "\r\n") == 0 ? 2 : 1);
  }
  runtime.budget.spend_bytes(text.size());
  return Value::of_list(std::move(lines));
}

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"old", "new", "count"});
  if (bound[0] == nullptr || bound[1] == nullptr) throw Error("replace needs two strings");
  return replace(runtime, self.as_text(), *bound[0], *bound[1], count_argument(bound[2]));
}

Value find_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sub"});
  const size_t found = find_text(runtime, self.bytes(), text_argument(bound[0]), 0);
  if (found == std::string::npos) return Value::of_int(-1);
  const auto before = std::string_view(self.bytes()).substr(0, found);
  return Value::of_int(static_cast<int64_t>(count_characters(before)));
}

Value count_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"sub"});
  const std::string& wanted = text_argument(bound[0]);
  if (wanted.empty()) return Value::of_int(length_of(runtime, self) + 1);
  int64_t count = 0;
  for (size_t pos = find_text(runtime, self.bytes(), wanted, 0); pos != std::string::npos;
       pos = find_text(runtime, self.bytes(), wanted, pos + wanted.size())) {
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

Value get_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"key", "default"});
  if (bound[0] == nullptr) throw Error("get needs a key");
  const Value* value = find_key(runtime, self.as_dict(), *bound[0]);
  if (value != nullptr) return *value;
  return bound[1] != nullptr ? *bound[1] : Value(None());
}

template <bool kKeys, bool kValues>
Value entries_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind({});
  std::vector<Value> parts;
  for (const auto& [key, value] : self.as_dict().entries()) {
    parts.push_back(kKeys && kValues ? Value::of_tuple({key, value}) : kKeys ? key : value);
  }
  runtime.budget.spend_steps(parts.size());
  return Value::of_list(std::move(parts));
}

Value cycle_method(Runtime&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) throw Error("cycle needs values");
  return arguments.positional[self.as_loop()->index % arguments.positional.size()];
}

Value changed_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) throw Error("changed takes values without names");
  const Value told = Value::of_tuple(arguments.positional);
  Value& last = self.as_loop()->changed_from;
  if (equals(runtime, last, told)) return Value::of_bool(false);
  last = told;
  return Value::of_bool(true);
}

const MethodTable kTextMethods = {{"strip", strip_method<true, true>},
                                  {"lstrip", strip_method<true, false>},
                                  {"rstrip", strip_method<false, true>},
                                  {"upper", case_method<Case::kUpper>},
                                  {"lower", case_method<Case::kLower>},
                                  {"title", case_method<Case::kTitle>},
                                  {"capitalize", case_method<Case::kCapitalized>},
                                  {"startswith", affix_method<false>},
                                  {"endswith", affix_method<true>},
                                  {"split", split_method},
                                  {"splitlines", splitlines_method},
                                  {"replace", replace_method},
                                  {"find", find_method},
                                  {"count", count_method},
                                  {"format", format_method},
                                  {"join", join_method}};
const MethodTable kDictMethods = {{"get", get_method},
                                  {"items", entries_method<true, true>},
                                  {"keys", entries_method<true, false>},
                                  {"values", entries_method<false, true>}};
const MethodTable kLoopMethods = {{"cycle", cycle_method}, {"changed", changed_method}};

constexpr std::string_view kChangingDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kChangingList[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};

const MethodTable* methods_of(const Value& object) {
  if (object.is_text()) return &kTextMethods;
  if (object.is_dict()) return &kDictMethods;
  return object.as_loop() != nullptr ? &kLoopMethods : nullptr;
}

bool is_changing(const Value& object, std::string_view name) {
  const auto is_name = [&](std::string_view each) { return each == name; };
  if (object.is_dict())
    return std::any_of(std::begin(kChangingDict), std::end(kChangingDict), is_name);
  return object.is_list() && !object.as_list().is_tuple &&
         std::any_of(std::begin(kChangingList), std::end(kChangingList), is_name);
}

}  // namespace

bool has_method(const Value& object, std::string_view name) {
  const MethodTable* table = methods_of(object);
  return (table != nullptr && table->count(name) > 0) || is_changing(object, name);
}

Value call_method(Runtime& runtime, const Callable& method, const Arguments& arguments) {
  if (is_changing(method.self, method.name)) {
    throw Error("'" + method.name + "' would change a " + std::string(method.self.type_name()) +
                ", which templates cannot do");
  }
  return methods_of(method.self)->at(method.name)(runtime, method.self, arguments);
}

}  // namespace quire::jinja
