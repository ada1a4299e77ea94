#include <map>

#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

using Test = bool (*)(Runtime&, const Value& object, const Value* argument);

const Value& needed(const Value* argument) {
  if (argument == nullptr) throw Error("the test needs an argument");
  return *argument;
}

/// Whether object % divisor == rest, for whatever % is defined.
bool has_rest(Runtime& runtime, const Value& object, const Value& divisor, int64_t rest) {
  return equals(runtime, modulo(runtime, object, divisor), Value::of_int(rest));
}

bool is_divisible(Runtime& runtime, const Value& object, const Value* argument) {
  return has_rest(runtime, object, needed(argument), 0);
}

template <int64_t kRest>
bool has_rest_of_two(Runtime& runtime, const Value& object, const Value*) {
  return has_rest(runtime, object, Value::of_int(2), kRest);
}

/// Jinja's undefined can be called, only to say that it is undefined.
bool is_callable(Runtime&, const Value& object, const Value*) {
  return object.is_callable() || object.as_loop() != nullptr || object.is_undefined();
}

bool is_equal(Runtime& runtime, const Value& object, const Value* argument) {
  return equals(runtime, object, needed(argument));
}
bool is_not_equal(Runtime& runtime, const Value& object, const Value* argument) {
  return !equals(runtime, object, needed(argument));
}
bool is_less(Runtime& runtime, const Value& object, const Value* argument) {
  return compare(runtime, object, needed(argument)) < 0;
}
bool is_at_most(Runtime& runtime, const Value& object, const Value* argument) {
  return compare(runtime, object, needed(argument)) <= 0;
}
bool is_greater(Runtime& runtime, const Value& object, const Value* argument) {
  return compare(runtime, object, needed(argument)) > 0;
}
bool is_at_least(Runtime& runtime, const Value& object, const Value* argument) {
  return compare(runtime, object, needed(argument)) >= 0;
}

template <Case kCase>
bool is_all_in_case(Runtime& runtime, const Value& object, const Value*) {
  return is_in_case(runtime, text_of(runtime, object).bytes(), kCase);
}

bool is_filter(Runtime&, const Value& object, const Value*) {
  return object.is_text() && has_filter(object.bytes());
}
bool is_test(Runtime&, const Value& object, const Value*) {
  return object.is_text() && has_test(object.bytes());
}

const std::map<std::string_view, Test> kTests = {
    {"defined", [](Runtime&, const Value& v, const Value*) { return !v.is_undefined(); }},
    {"undefined", [](Runtime&, const Value& v, const Value*) { return v.is_undefined(); }},
    {"none", [](Runtime&, const Value& v, const Value*) { return v.is_none(); }},
    {"string", [](Runtime&, const Value& v, const Value*) { return v.is_text(); }},
    {"mapping", [](Runtime&, const Value& v, const Value*) { return v.is_dict(); }},
    {"iterable",
     [](Runtime&, const Value& v, const Value*) {
       return v.is_text() || v.is_list() || v.is_dict() || v.is_generator() || v.is_undefined() ||
              v.as_loop() != nullptr;
     }},
    {"sequence",
     [](Runtime&, const Value& v, const Value*) {
       return v.is_text() || v.is_list() || v.is_dict() || v.is_undefined();
     }},
    {"number", [](Runtime&, const Value& v, const Value*) { return v.is_number(); }},
    {"integer", [](Runtime&, const Value& v, const Value*) { return v.is_int(); }},
    {"float", [](Runtime&, const Value& v, const Value*) { return v.is_float(); }},
    {"boolean", [](Runtime&, const Value& v, const Value*) { return v.is_bool(); }},
    {"true", [](Runtime&, const Value& v, const Value*) { return v.is_bool() && v.as_bool(); }},
    {"false", [](Runtime&, const Value& v, const Value*) { return v.is_bool() && !v.as_bool(); }},
    {"callable", is_callable},
    {"odd", has_rest_of_two<1>},
    {"even", has_rest_of_two<0>},
    {"divisibleby", is_divisible},
    {"lower", is_all_in_case<Case::kLower>},
    {"upper", is_all_in_case<Case::kUpper>},
    {"filter", is_filter},
    {"test", is_test},
    {"in", [](Runtime& r, const Value& v, const Value* a) { return contains(r, needed(a), v); }},
    {"sameas", [](Runtime&, const Value& v, const Value* a) { return v.is_same(needed(a)); }},
    {"equalto", is_equal},
    {"eq", is_equal},
    {"==", is_equal},
    {"ne", is_not_equal},
    {"!=", is_not_equal},
    {"lt", is_less},
    {"lessthan", is_less},
    {"<", is_less},
    {"le", is_at_most},
    {"<=", is_at_most},
    {"gt", is_greater},
    {"greaterthan", is_greater},
    {">", is_greater},
    {"ge", is_at_least},
    {">=", is_at_least}};

}  // namespace

bool apply_test(Runtime& runtime, const std::string& name, const Value& object,
                const Arguments& arguments) {
  const auto test = kTests.find(name);
  if (test == kTests.end()) throw Error("no test named '" + name + "'");
  if (arguments.positional.size() > 1 || !arguments.named.empty()) {
    throw Error("the test '" + name + "' takes one argument at most");
  }
  return test->second(runtime, object,
                      arguments.positional.empty() ? nullptr : &arguments.positional[0]);
}

bool has_test(std::string_view name) { return kTests.contains(name); }

}  // namespace quire::jinja
