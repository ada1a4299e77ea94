#include <algorithm>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

Value missing(const Value& object, const std::string& name) {
  if (object.is_undefined()) throw_undefined(object);
  return Value::undefined("'" + std::string(object.type_name()) + " object' has no attribute '" +
                          name + "'");
}

Value method_of(const Value& object, const std::string& name) {
  auto method = std::make_shared<Callable>();
  method->name = name;
  method->self = object;
  return CallablePtr(std::move(method));
}

Value loop_attribute(const Value& object, const std::string& name) {
  const Loop& loop = *object.as_loop();
  const auto size = static_cast<int64_t>(loop.items.size());
  const auto index = static_cast<int64_t>(loop.index);
  if (name == "index") return Value::of_int(index + 1);
  if (name == "index0") return Value::of_int(index);
  if (name == "revindex") return Value::of_int(size - index);
  if (name == "revindex0") return Value::of_int(size - index - 1);
  if (name == "first") return Value::of_bool(index == 0);
  if (name == "last") return Value::of_bool(index == size - 1);
  if (name == "length") return Value::of_int(size);
  if (name == "depth") return Value::of_int(loop.depth + 1);
  if (name == "depth0") return Value::of_int(loop.depth);
  if (name == "previtem") {
    if (index == 0) return Value::undefined("there is no previous item");
    return loop.items[loop.index - 1];
  }
  if (name == "nextitem") {
    if (index == size - 1) return Value::undefined("there is no next item");
    return loop.items[loop.index + 1];
  }
  return has_method(object, name) ? method_of(object, name) : missing(object, name);
}

/// Where a slice starts, ends and how it steps, as Python's slice.indices.
struct Steps {
  int64_t begin, end, step;
};

Steps steps_of(int64_t length, const Value* begin, const Value* end, const Value* step) {
  const auto number = [](const Value* value, int64_t fallback) {
    if (value == nullptr || value->is_none()) return fallback;
    if (!value->is_number() || value->is_float()) throw Error("slices are made of whole numbers");
    return value->as_int();
  };
  const int64_t by = number(step, 1);
  if (by == 0) throw Error("a slice cannot step by zero");
  const int64_t low = by > 0 ? 0 : -1;
  const int64_t high = by > 0 ? length : length - 1;
  const auto place = [&](const Value* value, int64_t fallback) {
    if (value == nullptr || value->is_none()) return fallback;
    const int64_t at = number(value, 0);
    return at < 0 ? std::max(at + length, low) : std::min(at, high);
  };
  return {place(begin, by > 0 ? low : high), place(end, by > 0 ? high : low),
          std::clamp(by, -length - 1, length + 1)};
}

Value slice_of_text(Runtime& runtime, const MarkedText& text, const Steps& steps) {
  runtime.budget.spend_bytes(text.size());
  if (steps.step == 1) {
    if (steps.end <= steps.begin) return MarkedText();
    const size_t begin = byte_of_character(text.bytes(), static_cast<size_t>(steps.begin));
    const auto rest = std::string_view(text.bytes()).substr(begin);
    const size_t size = byte_of_character(rest, static_cast<size_t>(steps.end - steps.begin));
    return text.slice(begin, begin + size);
  }
  const std::vector<Value> characters = items_of(runtime, Value(text));
  MarkedText out;
  for (int64_t i = steps.begin; steps.step > 0 ? i < steps.end : i > steps.end; i += steps.step) {
    out.append(characters[static_cast<size_t>(i)].as_text());
  }
  return out;
}

}  // namespace

Value attribute_of(const Value& object, const std::string& name) {
  if (object.is_undefined()) throw_undefined(object);
  if (object.as_loop() != nullptr) return loop_attribute(object, name);
  if (Namespace* space = object.as_namespace()) {
    const Value* value = space->find(name);
    return value != nullptr ? *value : missing(object, name);
  }
  if (has_method(object, name)) return method_of(object, name);
  if (object.is_list() && object.as_list().is_group) {
    if (name == "grouper") return object.items()[0];
    if (name == "list") return object.items()[1];
  }
  const Value* value = object.is_dict() ? object.as_dict().find(name) : nullptr;
  return value != nullptr ? *value : missing(object, name);
}

Value item_of(Runtime& runtime, const Value& object, const Value& index) {
  if (object.is_undefined()) throw_undefined(object);
  if (object.is_dict() && !index.is_list() && !index.is_dict()) {
    const Value* value = find_key(runtime, object.as_dict(), index);
    if (value != nullptr) return *value;
  }
  if (index.is_text()) {
    if (object.is_dict() && !has_method(object, index.bytes())) {
      return missing(object, index.bytes());
    }
    return attribute_of(object, index.bytes());
  }
  const bool is_sequence = object.is_list() || object.is_text();
  if (!is_sequence || !index.is_number() || index.is_float()) {
    return missing(object, text_of(runtime, index).bytes());
  }
  const int64_t length = length_of(runtime, object);
  const int64_t at = index.as_int() < 0 ? index.as_int() + length : index.as_int();
  if (at < 0 || at >= length) return missing(object, std::to_string(index.as_int()));
  if (object.is_list()) return object.items()[static_cast<size_t>(at)];
  return slice_of_text(runtime, object.as_text(), {at, at + 1, 1});
}

Value slice_of(Runtime& runtime, const Value& object, const Value* begin, const Value* end,
               const Value* step) {
  if (object.is_undefined()) throw_undefined(object);
  if (!object.is_text() && !object.is_list()) {
    throw Error("a value of type '" + std::string(object.type_name()) + "' cannot be sliced");
  }
  const Steps steps = steps_of(length_of(runtime, object), begin, end, step);
  if (object.is_text()) return slice_of_text(runtime, object.as_text(), steps);
  std::vector<Value> items;
  for (int64_t i = steps.begin; steps.step > 0 ? i < steps.end : i > steps.end; i += steps.step) {
    items.push_back(object.items()[static_cast<size_t>(i)]);
  }
  runtime.budget.spend_steps(items.size());
  return object.as_list().is_tuple ? Value::of_tuple(std::move(items))
                                   : Value::of_list(std::move(items));
}

}  // namespace quire::jinja
