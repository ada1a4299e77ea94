#include <algorithm>

#include "engine/text/jinja/filters.h"

namespace quire::jinja {
namespace {

/// A list takes more memory than what else is made in a step.
constexpr size_t kStepsOfList = 4;

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
  for (Value& part : parts) part = attribute_path(runtime, part, bound[1]);
  return join(runtime, parts, bound[0] != nullptr ? text_of(runtime, *bound[0]) : MarkedText());
}

/// Lists of `size` items each; the last may be shorter.
Value batch(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"linecount", "fill_with"});
  if (bound[0] == nullptr) throw Error("batch needs the number of items");
  const int64_t size = whole(bound[0], 0);
  std::vector<Value> batches, current;
  const auto close = [&] {
    runtime.budget.spend_steps(kStepsOfList);
    batches.push_back(Value::of_list(std::exchange(current, {})));
  };
  for (Value& item : items_of(runtime, object)) {
    if (static_cast<int64_t>(current.size()) == size) close();
    current.push_back(std::move(item));
  }
  if (current.empty()) return Value::of_generator(std::move(batches));
  const auto num_items = static_cast<int64_t>(current.size());
  if (is_given(bound[1]) && num_items < size) {
    runtime.budget.spend_steps(static_cast<size_t>(size - num_items));
    current.resize(static_cast<size_t>(size), *bound[1]);
  }
  close();
  return Value::of_generator(std::move(batches));
}

/// That many lists; the first ones have one item more where the items do not come out even.
Value slice(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"slices", "fill_with"});
  const int64_t num_slices = whole(bound[0], 0);
  if (num_slices == 0) throw Error("slice needs the number of lists");
  const std::vector<Value> items = items_of(runtime, object);
  std::vector<Value> slices;
  if (num_slices < 0) return Value::of_generator(std::move(slices));
  const size_t size = items.size() / static_cast<size_t>(num_slices);
  const size_t num_longer = items.size() % static_cast<size_t>(num_slices);
  auto begin = items.begin();
  for (size_t i = 0; i < static_cast<size_t>(num_slices); ++i) {
    runtime.budget.spend_steps(kStepsOfList);
    const auto end = begin + static_cast<std::ptrdiff_t>(size + (i < num_longer ? 1 : 0));
    std::vector<Value> part(begin, end);
    if (is_given(bound[1]) && i >= num_longer) part.push_back(*bound[1]);
    slices.push_back(Value::of_list(std::move(part)));
    begin = end;
  }
  return Value::of_generator(std::move(slices));
}

Value sum(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"attribute", "start"});
  Value total = bound[1] != nullptr ? *bound[1] : Value::of_int(0);
  for (const Value& item : items_of(runtime, object)) {
    total = add(runtime, total, attribute_path(runtime, item, bound[0]));
  }
  return total;
}

Value map(Runtime& runtime, const Value& object, const Arguments& arguments) {
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    const auto bound = arguments.bind({"attribute", "default"});
    if (bound[0] == nullptr) throw Error("map needs a filter or an attribute");
    for (const Value& item : items_of(runtime, object)) {
      mapped.push_back(attribute_path(runtime, item, bound[0], bound[1]));
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
        kOfAttribute ? attribute_path(runtime, item, &arguments.positional[0]) : item;
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
                                     {"sum", sum},
                                     {"batch", batch},
                                     {"slice", slice},
                                     {"map", map},
                                     {"select", choose<true, false>},
                                     {"reject", choose<false, false>},
                                     {"selectattr", choose<true, true>},
                                     {"rejectattr", choose<false, true>}};
  return kTable;
}

}  // namespace quire::jinja
