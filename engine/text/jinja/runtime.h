#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/value.h"

namespace quire::jinja {

/// What one rendering may use; a template that needs more fails with an Error that says so. They
/// make a hostile template harmless: time goes with steps and built bytes, memory with built bytes.
struct Limits {
  int64_t max_steps = 20'000'000;        // nodes visited, items and 256 bytes of text looked at
  int32_t max_depth = 250;               // nodes within nodes, through macros
  size_t max_output_bytes = 64u << 20;   // of the rendered prompt
  size_t max_built_bytes = 1024u << 20;  // of all texts that operations make on the way
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  void spend_steps(size_t count);
  /// The steps of looking at `num_bytes` of text.
  void spend_reading(size_t num_bytes) { spend_steps(num_bytes / kBytesOfStep); }
  /// Called before `count` bytes are made.
  void spend_bytes(size_t count);
  void check_output(size_t num_bytes) const;
  const Limits& limits() const { return limits_; }

 private:
  static constexpr size_t kBytesOfStep = 256;

  Limits limits_;
  int64_t steps_ = 0;
  size_t built_bytes_ = 0;
};

/// What stands behind the operations on values: budget, and the time that strftime_now tells.
struct Runtime {
  explicit Runtime(const Limits& limits) : budget(limits) {}
  Budget budget;
  std::tm now = {};
};

struct NamedArgument {
  MarkedText name;  // the request's where a dict of it is taken apart: f(**dict)
  Value value;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<NamedArgument> named;
  /// The values of these parameters in order, null where none was given. Throws Error for an
  /// argument that is none of them.
  std::vector<const Value*> bind(std::initializer_list<std::string_view> parameters) const;
  /// Of the first argument on.
  Arguments without_first(size_t count) const;
};

// ---- operations.cc ----
// Whatever looks at a text or at items spends steps for them: values share their parts, so that a
// small one may unfold into more than can be looked at.
bool equals(Runtime& runtime, const Value& left, const Value& right);
/// < 0, 0, > 0. Throws Error for values that have no order.
int compare(Runtime& runtime, const Value& left, const Value& right);
/// The value of a key that a template has computed; null if there is none.
const Value* find_key(Runtime& runtime, const Dict& dict, const Value& key);
bool contains(Runtime& runtime, const Value& container, const Value& item);
/// What a for statement runs over. Throws Error for what has no items.
std::vector<Value> items_of(Runtime& runtime, const Value& value);
/// Number of items or characters.
int64_t length_of(Runtime& runtime, const Value& value);
[[noreturn]] void throw_undefined(const Value& value);

// ---- arithmetic.cc ----
Value add(Runtime& runtime, const Value& left, const Value& right);
Value subtract(const Value& left, const Value& right);
Value multiply(Runtime& runtime, const Value& left, const Value& right);
Value divide(const Value& left, const Value& right);
Value floor_divide(const Value& left, const Value& right);
Value modulo(Runtime& runtime, const Value& left, const Value& right);
Value power(const Value& left, const Value& right);
Value negate(const Value& operand);

// ---- python_text.cc ----
/// str(value): how {{ value }} is printed.
MarkedText text_of(Runtime& runtime, const Value& value);
/// repr(value): how it stands in a list.
MarkedText repr_of(Runtime& runtime, const Value& value);
std::string float_text(double number);

// ---- formatting.cc ----
/// "{:>5}".format(…)
MarkedText format_braces(Runtime& runtime, const MarkedText& format, const Arguments& arguments);
/// "%s %5d" % …
MarkedText format_percent(Runtime& runtime, const MarkedText& format, const Value& arguments);

// ---- json_text.cc ----
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  int64_t indent = -1;  // columns; < 0 = all on one line
  MarkedText item_separator{", "};
  MarkedText key_separator{": "};
};
/// json.dumps(value).
MarkedText json_of(Runtime& runtime, const Value& value, const JsonStyle& style);

// ---- attributes.cc ----
/// object.name, as Jinja looks it up: methods first, then items.
Value attribute_of(const Value& object, const std::string& name);
/// object[index]: items first, then methods.
Value item_of(Runtime& runtime, const Value& object, const Value& index);
/// object[begin:end:step]; null where left out.
Value slice_of(Runtime& runtime, const Value& object, const Value* begin, const Value* end,
               const Value* step);

// ---- methods.cc ----
bool has_method(const Value& object, std::string_view name);
Value call_method(Runtime& runtime, const Callable& method, const Arguments& arguments);

// ---- filters.cc, tests.cc ----
bool has_filter(std::string_view name);
bool has_test(std::string_view name);
Value apply_filter(Runtime& runtime, const std::string& name, const Value& object,
                   const Arguments& arguments);
bool apply_test(Runtime& runtime, const std::string& name, const Value& object,
                const Arguments& arguments);

// ---- text_operations.cc ----
/// Where `wanted` begins in `text`, from byte `from` on; npos if nowhere. In linear time.
size_t find_text(Runtime& runtime, std::string_view text, std::string_view wanted, size_t from);
/// Where the last one begins; npos if nowhere.
size_t find_last_text(Runtime& runtime, std::string_view text, std::string_view wanted);
/// A line without and with what ends it.
struct Line {
  size_t begin, end, next;
};
/// As Python cuts lines: also at form feeds and at Unicode's own separators.
std::vector<Line> lines_of(Runtime& runtime, std::string_view text);
MarkedText strip(Runtime& runtime, const MarkedText& text, const Value* characters, bool left,
                 bool right);
MarkedText replace(Runtime& runtime, const MarkedText& text, const Value& from, const Value& to,
                   int64_t max_count);
Value split(Runtime& runtime, const MarkedText& text, const Value* separator, int64_t max_count);
Value split_from_right(Runtime& runtime, const MarkedText& text, const Value* separator,
                       int64_t max_count);
MarkedText join(Runtime& runtime, const std::vector<Value>& items, const MarkedText& separator);
enum class Case : uint8_t { kUpper, kLower, kCapitalized, kTitle, kTitleOfWords };
MarkedText with_case(Runtime& runtime, const MarkedText& text, Case wanted);
/// Whether there are letters that have a case, and all are of this one.
bool is_in_case(Runtime& runtime, std::string_view text, Case wanted);
enum class Side : uint8_t { kLeft, kRight, kBoth };
/// The text with `fill`, one character, on that side until it has `width` characters.
MarkedText padded(Runtime& runtime, const MarkedText& text, Side side, int64_t width,
                  const MarkedText& fill);
MarkedText indent(Runtime& runtime, const MarkedText& text, const MarkedText& margin, bool first,
                  bool blank);

}  // namespace quire::jinja
