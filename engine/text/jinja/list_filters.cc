#include <algorithm>
#include <set>

#include "engine/text/jinja/filters.h"

namespace quire::jinja {
namespace {

bool is_set(const Value* value) { return value != nullptr && value->is_true(); }

/// item.a.b, also with numbers as parts: what attribute="a.b" names.
Value attribute_path(Runtime& runtime, const Value& item, const Value& path) {
  if (!path.is_text()) return item_of(runtime, item, path);
  Value value = item;
  const std::string& names = path.bytes();
  for (size_t pos = 0; pos <= names.size();) {
    const size_t dot = std::min(names.find('.', pos), names.size());
    const std::string name = names.substr(pos, dot - pos);
    const bool is_index = !name.empty() && name.size() < 10 &&
                          name.find_first_not_of("0123456789") == std::string::npos;
    value =
        item_of(runtime, value, is_index ? Value::of_int(std::stoi(name)) : Value::of_text(name));
    pos = dot + 1;
  }
  return value;
}

Value case_folded(Runtime& runtime, const Value& value) {
  return value.is_text() ? Value(with_case(runtime, value.as_text(), Case::kLower)) : value;
}

Value length(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  return Value::of_int(length_of(runtime, object));
}

Value first(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  if (object.is_generator() && !object.as_generator().is_empty()) {
    return object.as_generator().take();
  }
  const std::vector<Value> items = items_of(runtime, object);
  return items.empty() ? Value::undefined("an empty sequence has no first item") : items.front();
}

Value last(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  if (object.is_generator()) throw Error("a generator has no last item before it is a list");
  const std::vector<Value> items = items_of(runtime, object);
  return items.empty() ? Value::undefined("an empty sequence has no last item") : items.back();
}

Value list(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  return Value::of_list(items_of(runtime, object));
}

Value reverse(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  std::vector<Value> items = items_of(runtime, object);
  std::reverse(items.begin(), items.end());
  if (object.is_text()) return join(runtime, items, MarkedText());
  return object.is_generator() ? Value::of_list(std::move(items))
                               : Value::of_generator(std::move(items));
}

Value items(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  if (object.is_undefined()) return Value::of_generator({});
  if (!object.is_dict()) throw Error("items needs a dict");
  Callable method{"items", object, nullptr};
  return Value::of_generator(items_of(runtime, call_method(runtime, method, {})));
}

Value join_filter(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"d", "attribute"});
  std::vector<Value> parts = items_of(runtime, object);
  if (bound[1] != nullptr) {
    for (Value& part : parts) part = attribute_path(runtime, part, *bound[1]);
  }
  return join(runtime, parts, bound[0] != nullptr ? text_of(runtime, *bound[0]) : MarkedText());
}

/// Items by their keys, in the order of the keys; equal ones stay in place.
std::vector<Value> sorted(Runtime& runtime, std::vector<std::pair<Value, Value>> keyed,
                          bool descending) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& left, const auto& right) {
    return descending ? compare(runtime, right.first, left.first) < 0
                      : compare(runtime, left.first, right.first) < 0;
  });
  std::vector<Value> values;
  for (auto& entry : keyed) values.push_back(std::move(entry.second));
  return values;
}

Value sort(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"reverse", "case_sensitive", "attribute"});
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items_of(runtime, object)) {
    Value key = bound[2] != nullptr ? attribute_path(runtime, item, *bound[2]) : item;
    if (!is_set(bound[1])) key = case_folded(runtime, key);
    keyed.emplace_back(std::move(key), std::move(item));
  }
  return Value::of_list(sorted(runtime, std::move(keyed), is_set(bound[0])));
}

Value dictsort(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"case_sensitive", "by", "reverse"});
  if (!object.is_dict()) throw Error("dictsort needs a dict");
  const bool by_value = bound[1] != nullptr && bound[1]->is_text() && bound[1]->bytes() == "value";
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : object.as_dict().entries()) {
    const Value& by = by_value ? value : key;
    keyed.emplace_back(is_set(bound[0]) ? by : case_folded(runtime, by),
                       Value::of_tuple({key, value}));
  }
  return Value::of_list(sorted(runtime, std::move(keyed), is_set(bound[2])));
}

Value unique(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"case_sensitive", "attribute"});
  std::set<std::string> seen;
  std::vector<Value> kept;
  for (Value& item : items_of(runtime, object)) {
    const Value key = bound[1] != nullptr ? attribute_path(runtime, item, *bound[1]) : item;
    const bool is_new =
        seen.insert(key_of(is_set(bound[0]) ? key : case_folded(runtime, key))).second;
    if (is_new) kept.push_back(std::move(item));
  }
  return Value::of_generator(std::move(kept));
}

Value sum(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"attribute", "start"});
  Value total = bound[1] != nullptr ? *bound[1] : Value::of_int(0);
  for (const Value& item : items_of(runtime, object)) {
    const bool has_path = bound[0] != nullptr && !bound[0]->is_none();
    total = add(runtime, total, has_path ? attribute_path(runtime, item, *bound[0]) : item);
  }
  return total;
}

Value map(Runtime& runtime, const Value& object, const Arguments& arguments) {
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    const auto bound = arguments.bind({"attribute", "default"});
    if (bound[0] == nullptr) throw Error("map needs a filter or an attribute");
    for (const Value& item : items_of(runtime, object)) {
      Value value = attribute_path(runtime, item, *bound[0]);
      mapped.push_back(value.is_undefined() && bound[1] != nullptr ? *bound[1] : std::move(value));
    }
    return Value::of_generator(std::move(mapped));
  }
  if (!arguments.positional[0].is_text()) throw Error("map needs the name of a filter");
  const Arguments rest = arguments.without_first(1);
  for (const Value& item : items_of(runtime, object)) {
    mapped.push_back(apply_filter(runtime, arguments.positional[0].bytes(), item, rest));
  }
  return Value::of_generator(std::move(mapped));
}

template <bool kWanted, bool kOfAttribute>
Value choose(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const size_t test_at = kOfAttribute ? 1 : 0;
  if (arguments.positional.size() < test_at) throw Error("expected the name of an attribute");
  const bool has_test = arguments.positional.size() > test_at;
  if (has_test && !arguments.positional[test_at].is_text()) {
    throw Error("expected the name of a test");
  }
  const Arguments rest = arguments.without_first(test_at + 1);
  std::vector<Value> kept;
  for (Value& item : items_of(runtime, object)) {
    const Value looked_at =
        kOfAttribute ? attribute_path(runtime, item, arguments.positional[0]) : item;
    const bool holds =
        has_test ? apply_test(runtime, arguments.positional[test_at].bytes(), looked_at, rest)
                 : looked_at.is_true();
    if (holds == kWanted) kept.push_back(std::move(item));
  }
  return Value::of_generator(std::move(kept));
}

}  // namespace

const FilterTable& list_filters() {
  static const FilterTable kTable = {{"length", length},
                                     {"count", length},
                                     {"first", first},
                                     {"last", last},
                                     {"list", list},
                                     {"reverse", reverse},
                                     {"items", items},
                                     {"join", join_filter},
                                     {"sort", sort},
                                     {"dictsort", dictsort},
                                     {"unique", unique},
                                     {"sum", sum},
                                     {"map", map},
                                     {"select", choose<true, false>},
                                     {"reject", choose<false, false>},
                                     {"selectattr", choose<true, true>},
                                     {"rejectattr", choose<false, true>}};
  return kTable;
}

}  // namespace quire::jinja
