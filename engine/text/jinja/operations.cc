#include <algorithm>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

bool equal_lists(Runtime& runtime, const List& left, const List& right) {
  return left.is_tuple == right.is_tuple && left.items.size() == right.items.size() &&
         std::equal(left.items.begin(), left.items.end(), right.items.begin(),
                    [&](const Value& a, const Value& b) { return equals(runtime, a, b); });
}

bool equal_dicts(Runtime& runtime, const Dict& left, const Dict& right) {
  if (left.entries().size() != right.entries().size()) return false;
  for (const auto& [key, value] : left.entries()) {
    const Value* other = find_key(runtime, right, key);
    if (other == nullptr || !equals(runtime, value, *other)) return false;
  }
  return true;
}

bool has_order(const Value& left, const Value& right) {
  return (left.is_number() && right.is_number()) || (left.is_text() && right.is_text()) ||
         (left.is_list() && right.is_list() && left.as_list().is_tuple == right.as_list().is_tuple);
}

/// Whether one of the items is equal to `item`; those before it and itself are taken.
bool take_until(Runtime& runtime, Generator& generator, const Value& item) {
  while (!generator.is_empty()) {
    if (equals(runtime, generator.take(), item)) return true;
  }
  return false;
}

}  // namespace

void throw_undefined(const Value& value) { throw Error(*value.as_undefined().what); }

const Value* find_key(Runtime& runtime, const Dict& dict, const Value& key) {
  runtime.budget.spend_steps(1);
  if (key.is_text()) runtime.budget.spend_reading(key.bytes().size());
  return dict.find(key);
}

bool equals(Runtime& runtime, const Value& left, const Value& right) {
  runtime.budget.spend_steps(1);
  if (left.is_number() && right.is_number()) {
    if (left.is_float() || right.is_float()) return left.as_float() == right.as_float();
    return left.as_int() == right.as_int();
  }
  if (left.is_text() && right.is_text()) {
    if (left.bytes().size() != right.bytes().size()) return false;
    runtime.budget.spend_reading(left.bytes().size());
    return left.bytes() == right.bytes();
  }
  if (left.is_list() && right.is_list()) {
    return equal_lists(runtime, left.as_list(), right.as_list());
  }
  if (left.is_dict() && right.is_dict()) {
    return equal_dicts(runtime, left.as_dict(), right.as_dict());
  }
  if (left.is_undefined()) return right.is_undefined();
  return left.is_same(right);
}

int compare(Runtime& runtime, const Value& left, const Value& right) {
  runtime.budget.spend_steps(1);
  if (left.is_undefined()) throw_undefined(left);
  if (right.is_undefined()) throw_undefined(right);
  if (!has_order(left, right)) {
    throw Error("'" + std::string(left.type_name()) + "' and '" + std::string(right.type_name()) +
                "' cannot be ordered");
  }
  if (left.is_text()) {  // as by code points
    runtime.budget.spend_reading(std::min(left.bytes().size(), right.bytes().size()));
    return left.bytes().compare(right.bytes());
  }
  if (left.is_list()) {
    const size_t common = std::min(left.items().size(), right.items().size());
    for (size_t i = 0; i < common; ++i) {
      if (!equals(runtime, left.items()[i], right.items()[i])) {
        return compare(runtime, left.items()[i], right.items()[i]);
      }
    }
    return left.items().size() < right.items().size() ? -1 : left.items().size() > common;
  }
  if (left.is_float() || right.is_float()) {
    return left.as_float() < right.as_float() ? -1 : left.as_float() > right.as_float();
  }
  return left.as_int() < right.as_int() ? -1 : left.as_int() > right.as_int();
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_text()) {
    if (!item.is_text()) throw Error("'in' looks for a string in a string");
    return find_text(runtime, container.bytes(), item.bytes(), 0) != std::string::npos;
  }
  if (container.is_dict()) return find_key(runtime, container.as_dict(), item) != nullptr;
  if (container.is_undefined()) return false;
  if (container.is_generator()) return take_until(runtime, container.as_generator(), item);
  if (!container.is_list()) {
    throw Error("'in' cannot look into a value of type '" + std::string(container.type_name()) +
                "'");
  }
  return std::any_of(container.items().begin(), container.items().end(),
                     [&](const Value& each) { return equals(runtime, each, item); });
}

std::vector<Value> items_of(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  if (value.is_list()) {
    items = value.items();
  } else if (value.is_dict()) {
    for (const auto& entry : value.as_dict().entries()) items.push_back(entry.first);
  } else if (value.is_text()) {
    const MarkedText& text = value.as_text();
    runtime.budget.spend_steps(text.size());
    for (size_t pos = 0; pos < text.size();) {
      const size_t length = character_at(text.bytes(), pos).num_bytes;
      items.push_back(text.slice(pos, pos + length));
      pos += length;
    }
  } else if (value.is_generator()) {
    items = value.as_generator().take_rest();
  } else if (!value.is_undefined()) {
    throw Error("'" + std::string(value.type_name()) + "' object is not iterable");
  }
  runtime.budget.spend_steps(items.size());
  return items;
}

int64_t length_of(Runtime& runtime, const Value& value) {
  if (value.is_text()) {
    runtime.budget.spend_reading(value.bytes().size());
    return static_cast<int64_t>(count_characters(value.bytes()));
  }
  if (value.is_list()) return static_cast<int64_t>(value.items().size());
  if (value.is_dict()) return static_cast<int64_t>(value.as_dict().entries().size());
  if (value.as_loop() != nullptr) return static_cast<int64_t>(value.as_loop()->items.size());
  if (value.is_undefined()) return 0;
  throw Error("object of type '" + std::string(value.type_name()) + "' has no length");
}

}  // namespace quire::jinja
