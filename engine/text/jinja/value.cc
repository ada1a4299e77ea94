#include "engine/text/jinja/value.h"

#include <algorithm>
#include <cmath>

namespace quire::jinja {
namespace {

int32_t depth_above(const std::vector<Value>& items) {
  int32_t depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  if (depth >= kMaxValueDepth) throw Error("lists and dicts are nested too deeply");
  return depth + 1;
}

std::shared_ptr<List> make_list(std::vector<Value> items) {
  auto list = std::make_shared<List>();
  list->depth = depth_above(items);
  list->items = std::move(items);
  return list;
}

std::shared_ptr<List> make_tuple(std::vector<Value> items) {
  auto tuple = make_list(std::move(items));
  tuple->is_tuple = true;
  return tuple;
}

}  // namespace

Value Value::of_list(std::vector<Value> items) {
  return Value(State(ListPtr(make_list(std::move(items)))));
}

Value Value::of_tuple(std::vector<Value> items) {
  return Value(State(ListPtr(make_tuple(std::move(items)))));
}

Value Value::of_group(Value grouper, Value list) {
  auto group = make_tuple({std::move(grouper), std::move(list)});
  group->is_group = true;
  return Value(State(ListPtr(std::move(group))));
}

Value Value::of_generator(std::vector<Value> items) {
  auto generator = std::make_shared<Generator>();
  generator->depth = depth_above(items);
  generator->items = std::move(items);
  return Value(State(std::move(generator)));
}

std::vector<Value> Generator::take_rest() {
  items.erase(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(num_taken));
  num_taken = 0;
  return std::exchange(items, {});
}

Value Value::undefined(std::string what) {
  return Undefined{std::make_shared<const std::string>(std::move(what))};
}

int64_t Value::whole_number() const {
  if (!is_number() || is_float()) throw Error("expected a whole number as argument");
  return as_int();
}

bool Value::is_true() const {
  if (is_undefined() || is_none()) return false;
  if (is_float()) return as_float() != 0;
  if (is_number()) return as_int() != 0;
  if (is_text()) return !bytes().empty();
  if (is_list()) return !items().empty();
  if (is_dict()) return !as_dict().entries().empty();
  if (as_loop() != nullptr) return !as_loop()->items.empty();
  return true;
}

int32_t Value::depth() const {
  if (is_list()) return as_list().depth;
  if (is_dict()) return as_dict().depth();
  if (is_generator()) return as_generator().depth;
  if (is_callable()) return as_callable().self.depth() + 1;
  return 0;
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_text()) return "str";
  if (is_list()) return as_list().is_tuple ? "tuple" : "list";
  if (is_dict()) return "dict";
  if (is_generator()) return "generator";
  if (as_namespace() != nullptr) return "Namespace";
  return as_loop() != nullptr ? "LoopContext" : "function";
}

bool Value::is_same(const Value& other) const {
  if (state_.index() != other.state_.index()) return false;
  if (is_undefined()) return false;
  if (is_none()) return true;
  if (is_float()) return as_float() == other.as_float();
  if (is_number()) return as_int() == other.as_int();
  if (is_text()) return &as_text() == &other.as_text();
  if (is_list()) return &as_list() == &other.as_list();
  if (is_dict()) return &as_dict() == &other.as_dict();
  if (is_generator()) return &as_generator() == &other.as_generator();
  if (is_callable()) return &as_callable() == &other.as_callable();
  return as_namespace() == other.as_namespace() && as_loop() == other.as_loop();
}

void Dict::set(Value key, Value value) {
  const int32_t depth = value.depth();
  if (depth >= kMaxValueDepth) throw Error("lists and dicts are nested too deeply");
  depth_ = std::max(depth_, depth + 1);
  const auto [found, is_new] = index_.try_emplace(key_of(key), entries_.size());
  if (is_new) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[found->second].second = std::move(value);
  }
}

const Value* Dict::find(const Value& key) const {
  const auto found = index_.find(key_of(key));
  return found != index_.end() ? &entries_[found->second].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = index_.find("s" + std::string(key));
  return found != index_.end() ? &entries_[found->second].second : nullptr;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Namespace::check_room() const {
  constexpr size_t kMaxAttributes = 1000;
  if (attributes.size() == kMaxAttributes) {
    throw Error("a namespace with more than " + std::to_string(kMaxAttributes) + " attributes");
  }
}

std::string key_of(const Value& value) {
  constexpr size_t kMaxTupleKeyBytes = 4096;
  if (value.is_text()) return "s" + value.bytes();
  if (value.is_none()) return "n";
  if (value.is_undefined()) return "u";
  if (value.is_float()) {
    const double number = value.as_float();
    if (number != std::floor(number) || std::abs(number) >= 9e18) {
      return "f" + std::to_string(std::hash<double>()(number));
    }
    return "i" + std::to_string(static_cast<int64_t>(number));
  }
  if (value.is_number()) return "i" + std::to_string(value.as_int());
  if (value.is_list() && value.as_list().is_tuple) {
    std::string key = "t";
    for (const Value& item : value.items()) {
      const std::string part = key_of(item);
      key += std::to_string(part.size()) + ":" + part;
      // A tuple of tuples that share their parts may unfold into more than there is memory.
      if (key.size() > kMaxTupleKeyBytes) throw Error("a tuple is too large to be a key");
    }
    return key;
  }
  throw Error("a " + std::string(value.type_name()) + " cannot be a key");
}

}  // namespace quire::jinja
