#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "engine/text/jinja/error.h"
#include "engine/text/jinja/marked_text.h"

namespace quire::jinja {

class Value;
class Dict;
struct Macro;
struct Stmt;
struct Scope;
struct Namespace;
struct Loop;

/// What a name has that nobody set. `what` is the sentence that using it fails with.
struct Undefined {
  std::shared_ptr<const std::string> what;
};
struct None {};

/// A list or tuple. Like all that a template sees but generators, it never changes after it was
/// made.
struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  bool is_group = false;  // of groupby: a tuple whose two items also have names
  int32_t depth = 1;      // levels of lists and dicts; bounded, because destruction recurses
};

/// What select, map and the like give: it is true even when empty, has no length, and each item can
/// be taken from it once.
struct Generator;

/// A function of the environment, a method bound to its value, or a macro.
struct Callable;

using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using TextPtr = std::shared_ptr<const MarkedText>;
using CallablePtr = std::shared_ptr<const Callable>;
using GeneratorPtr = std::shared_ptr<Generator>;

/// Levels that a value of lists and dicts may have.
inline constexpr int32_t kMaxValueDepth = 200;

/// What an expression has as its result, with Python's meaning. Cheap to copy. Namespaces, loops
/// and macros belong to the rendering, which outlives its values: they may refer to themselves.
class Value {
 public:
  using State = std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr,
                             GeneratorPtr, CallablePtr, Namespace*, Loop*>;

  Value() = default;
  Value(None none) : state_(none) {}
  Value(Undefined undefined) : state_(std::move(undefined)) {}
  Value(MarkedText text) : state_(std::make_shared<const MarkedText>(std::move(text))) {}
  Value(DictPtr dict) : state_(std::move(dict)) {}
  Value(CallablePtr callable) : state_(std::move(callable)) {}
  Value(Namespace* space) : state_(space) {}
  Value(Loop* loop) : state_(loop) {}
  static Value of_bool(bool value) { return Value(State(value)); }
  static Value of_int(int64_t value) { return Value(State(value)); }
  static Value of_float(double value) { return Value(State(value)); }
  static Value of_text(std::string_view text) { return Value(MarkedText(std::string(text))); }
  /// Throws Error where the values are nested too deeply.
  static Value of_list(std::vector<Value> items);
  static Value of_tuple(std::vector<Value> items);
  /// (grouper, list), as groupby gives them.
  static Value of_group(Value grouper, Value list);
  static Value of_generator(std::vector<Value> items);
  static Value undefined(std::string what);

  bool is_undefined() const { return std::holds_alternative<Undefined>(state_); }
  bool is_none() const { return std::holds_alternative<None>(state_); }
  bool is_bool() const { return std::holds_alternative<bool>(state_); }
  bool is_int() const { return std::holds_alternative<int64_t>(state_); }
  bool is_float() const { return std::holds_alternative<double>(state_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_text() const { return std::holds_alternative<TextPtr>(state_); }
  bool is_list() const { return std::holds_alternative<ListPtr>(state_); }
  bool is_dict() const { return std::holds_alternative<DictPtr>(state_); }
  bool is_generator() const { return std::holds_alternative<GeneratorPtr>(state_); }
  bool is_callable() const { return std::holds_alternative<CallablePtr>(state_); }

  const Undefined& as_undefined() const { return std::get<Undefined>(state_); }
  bool as_bool() const { return std::get<bool>(state_); }
  /// Of an int or bool.
  int64_t as_int() const { return is_bool() ? as_bool() : std::get<int64_t>(state_); }
  /// Throws Error for what is neither an int nor a bool.
  int64_t whole_number() const;
  /// Of any number.
  double as_float() const {
    return is_float() ? std::get<double>(state_) : static_cast<double>(as_int());
  }
  const MarkedText& as_text() const { return *std::get<TextPtr>(state_); }
  const std::string& bytes() const { return as_text().bytes(); }
  const List& as_list() const { return *std::get<ListPtr>(state_); }
  const std::vector<Value>& items() const { return as_list().items; }
  const Dict& as_dict() const { return *std::get<DictPtr>(state_); }
  Generator& as_generator() const { return *std::get<GeneratorPtr>(state_); }
  const Callable& as_callable() const { return *std::get<CallablePtr>(state_); }
  Namespace* as_namespace() const { return get_or_null<Namespace*>(); }
  Loop* as_loop() const { return get_or_null<Loop*>(); }

  bool is_true() const;
  int32_t depth() const;
  /// Python's word for the type: "str", "dict", …
  std::string_view type_name() const;
  /// The very same object, as `is` sees it.
  bool is_same(const Value& other) const;

 private:
  explicit Value(State state) : state_(std::move(state)) {}

  template <class Pointer>
  Pointer get_or_null() const {
    const auto* held = std::get_if<Pointer>(&state_);
    return held != nullptr ? *held : nullptr;
  }

  State state_;
};

/// Insertion-ordered. Keys are text, numbers, booleans or none; 1, 1.0 and true are one key.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  /// Replaces the value of a key that is there. Throws Error for a key that cannot be one.
  void set(Value key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }
  int32_t depth() const { return depth_; }

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;
  int32_t depth_ = 1;
};

/// What namespace() makes: the one thing in a template whose attributes can be set.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(std::string_view name);
  /// Throws Error where there are as many attributes as one may have: finding them is a search.
  void check_room() const;
};

/// The `loop` of a for statement at one of its turns. `items` are what it runs over.
struct Loop {
  std::vector<Value> items;
  size_t index = 0;
  Value changed_from;  // what `changed` was last told
  // Of a recursive loop, which can be called:
  int32_t depth = 0;
  const Stmt* statement = nullptr;
  std::shared_ptr<Scope> scope = nullptr;  // around it
};

struct Generator {
  std::vector<Value> items;
  size_t num_taken = 0;
  int32_t depth = 1;

  bool is_empty() const { return num_taken == items.size(); }
  /// REQUIRES: !is_empty().
  Value take() { return std::move(items[num_taken++]); }
  std::vector<Value> take_rest();
};

struct Callable {
  std::string name;
  Value self;                    // of a method
  const Macro* macro = nullptr;  // owned by the rendering
};

/// A text that is equal for equal keys and differs for others; Throws Error for a list or dict.
std::string key_of(const Value& value);

}  // namespace quire::jinja
