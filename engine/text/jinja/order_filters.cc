#include <algorithm>
#include <set>

#include "engine/text/jinja/filters.h"

namespace quire::jinja {
namespace {

struct Keyed {
  Value key;
  Value item;
};

/// What of an item counts where `is_case_sensitive` says whether its case does.
Value key_of_item(Runtime& runtime, const Value& item, const Value* is_case_sensitive) {
  if (!item.is_text() || is_set(is_case_sensitive)) return item;
  return with_case(runtime, item.as_text(), Case::kLower);
}

/// In the order of the keys; equal ones stay in place.
std::vector<Value> sorted(Runtime& runtime, std::vector<Keyed> keyed, bool descending) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& left, const Keyed& right) {
    return descending ? compare(runtime, right.key, left.key) < 0
                      : compare(runtime, left.key, right.key) < 0;
  });
  std::vector<Value> values;
  for (Keyed& entry : keyed) values.push_back(std::move(entry.item));
  return values;
}

/// The paths of attribute="a.b,c"; one of null where there is none.
std::vector<Value> paths_of(const Value* attribute) {
  std::vector<Value> paths;
  if (!is_given(attribute) || !attribute->is_text()) {
    return {is_given(attribute) ? *attribute : Value(None())};
  }
  const std::string& names = attribute->bytes();
  for (size_t pos = 0; pos <= names.size();) {
    const size_t comma = std::min(names.find(',', pos), names.size());
    paths.push_back(Value::of_text(std::string_view(names).substr(pos, comma - pos)));
    pos = comma + 1;
  }
  return paths;
}

Value sort(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"reverse", "case_sensitive", "attribute"});
  const std::vector<Value> paths = paths_of(bound[2]);
  std::vector<Keyed> keyed;
  for (Value& item : items_of(runtime, object)) {
    std::vector<Value> keys;
    for (const Value& path : paths) {
      keys.push_back(key_of_item(runtime, attribute_path(runtime, item, &path), bound[1]));
    }
    keyed.push_back({Value::of_list(std::move(keys)), std::move(item)});
  }
  return Value::of_list(sorted(runtime, std::move(keyed), is_set(bound[0])));
}

Value dictsort(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"case_sensitive", "by", "reverse"});
  if (!object.is_dict()) throw Error("dictsort needs a dict");
  const std::string by = bound[1] == nullptr ? "key" : text_of(runtime, *bound[1]).bytes();
  if (by != "key" && by != "value") throw Error("dictsort goes by key or value");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : object.as_dict().entries()) {
    keyed.push_back(
        {key_of_item(runtime, by == "key" ? key : value, bound[0]), Value::of_tuple({key, value})});
  }
  return Value::of_list(sorted(runtime, std::move(keyed), is_set(bound[2])));
}

Value unique(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"case_sensitive", "attribute"});
  std::set<std::string> seen;
  std::vector<Value> kept;
  for (Value& item : items_of(runtime, object)) {
    const Value key = key_of_item(runtime, attribute_path(runtime, item, bound[1]), bound[0]);
    if (key.is_text()) runtime.budget.spend_reading(key.bytes().size());
    if (seen.insert(key_of(key)).second) kept.push_back(std::move(item));
  }
  return Value::of_generator(std::move(kept));
}

/// The first of the smallest or of the greatest items.
template <bool kSmallest>
Value extreme(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"case_sensitive", "attribute"});
  Value best_key, best = Value::undefined("an empty sequence has no least or greatest item");
  bool is_first = true;
  for (Value& item : items_of(runtime, object)) {
    Value key = key_of_item(runtime, attribute_path(runtime, item, bound[1]), bound[0]);
    const bool is_better = is_first || (kSmallest ? compare(runtime, key, best_key) < 0
                                                  : compare(runtime, best_key, key) < 0);
    is_first = false;
    if (!is_better) continue;
    best_key = std::move(key);
    best = std::move(item);
  }
  return best;
}

/// (key, items) in the order of the keys.
Value groupby(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"attribute", "default", "case_sensitive"});
  if (bound[0] == nullptr) throw Error("groupby needs an attribute");
  const auto own_key = [&](const Value& item) {
    return attribute_path(runtime, item, bound[0], bound[1]);
  };
  std::vector<Keyed> keyed;
  for (Value& item : items_of(runtime, object)) {
    keyed.push_back({key_of_item(runtime, own_key(item), bound[2]), std::move(item)});
  }
  std::vector<Value> groups, members;
  Value key;
  const auto close = [&] {
    if (members.empty()) return;
    Value name = own_key(members.front());
    groups.push_back(Value::of_group(std::move(name), Value::of_list(std::exchange(members, {}))));
  };
  for (Value& item : sorted(runtime, std::move(keyed), false)) {
    Value next = key_of_item(runtime, own_key(item), bound[2]);
    if (!members.empty() && !equals(runtime, key, next)) close();
    key = std::move(next);
    members.push_back(std::move(item));
  }
  close();
  return Value::of_list(std::move(groups));
}

}  // namespace

const FilterTable& order_filters() {
  static const FilterTable kTable = {{"sort", sort},          {"dictsort", dictsort},
                                     {"unique", unique},      {"min", extreme<true>},
                                     {"max", extreme<false>}, {"groupby", groupby}};
  return kTable;
}

}  // namespace quire::jinja
