#include <algorithm>

#include "engine/text/jinja/methods.h"

namespace quire::jinja {
namespace {

template <bool kIndex>
Value find_item(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind({"value"});
  if (bound[0] == nullptr) throw Error("expected a value to look for");
  int64_t count = 0;
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (!equals(runtime, self.items()[i], *bound[0])) continue;
    if (kIndex) return Value::of_int(static_cast<int64_t>(i));
    ++count;
  }
  if (kIndex) throw Error("the value is not in the list");
  return Value::of_int(count);
}

/// What never changes is its own copy.
Value copy_method(Runtime&, const Value& self, const Arguments& arguments) {
  arguments.bind({});
  return self;
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

const MethodTable kDictMethods = {{"get", get_method},
                                  {"items", entries_method<true, true>},
                                  {"keys", entries_method<true, false>},
                                  {"values", entries_method<false, true>},
                                  {"copy", copy_method}};
const MethodTable kTupleMethods = {{"count", find_item<false>}, {"index", find_item<true>}};
const MethodTable kListMethods = {
    {"count", find_item<false>}, {"index", find_item<true>}, {"copy", copy_method}};
const MethodTable kLoopMethods = {{"cycle", cycle_method}, {"changed", changed_method}};

constexpr std::string_view kChangingDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kChangingList[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};

const MethodTable* methods_of(const Value& object) {
  if (object.is_text()) return &text_methods();
  if (object.is_dict()) return &kDictMethods;
  if (object.is_list()) return object.as_list().is_tuple ? &kTupleMethods : &kListMethods;
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
