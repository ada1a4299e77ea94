#include "engine/text/jinja/evaluator.h"

namespace quire::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox has it

Value make_range(Runtime& runtime, const Arguments& arguments) {
  const auto bound = arguments.bind({"start", "stop", "step"});
  int64_t numbers[3] = {0, 0, 1};
  for (size_t i = 0; i < 3; ++i) {
    if (bound[i] == nullptr) continue;
    if (bound[i]->is_undefined()) throw_undefined(*bound[i]);
    if (!bound[i]->is_number() || bound[i]->is_float()) throw Error("range needs whole numbers");
    numbers[i] = bound[i]->as_int();
  }
  if (bound[0] == nullptr) throw Error("range needs an end");
  if (bound[1] == nullptr) std::swap(numbers[0], numbers[1]);
  const auto [start, stop, step] = std::tie(numbers[0], numbers[1], numbers[2]);
  if (step == 0) throw Error("range cannot step by zero");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      throw Error("range has more than " + std::to_string(kMaxRange) + " items");
    }
    items.push_back(Value::of_int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  runtime.budget.spend_steps(items.size());
  return Value::of_list(std::move(items));
}

Value format_now(Runtime& runtime, const Arguments& arguments) {
  const auto bound = arguments.bind({"format"});
  if (bound[0] == nullptr || !bound[0]->is_text()) throw Error("strftime_now needs a format");
  const MarkedText& format = bound[0]->as_text();
  // The space keeps an empty result apart from one that does not fit.
  const std::string spaced = format.bytes() + " ";
  char buffer[1024];
  const size_t size = std::strftime(buffer, sizeof(buffer), spaced.c_str(), &runtime.now);
  if (size == 0) throw Error("the format of strftime_now is too long");
  MarkedText text;
  text.append_made_from(std::string_view(buffer, size - 1), format, {0, format.size()});
  return text;
}

}  // namespace

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) throw_undefined(callee);
  if (callee.as_loop() != nullptr) return call_loop(*callee.as_loop(), arguments);
  if (!callee.is_callable()) {
    throw Error("'" + std::string(callee.type_name()) + "' object is not callable");
  }
  const Callable& callable = callee.as_callable();
  if (callable.macro != nullptr) return call_macro(*callable.macro, arguments);
  if (!callable.self.is_undefined()) return call_method(runtime_, callable, arguments);
  return call_function(callable.name, arguments);
}

Value Evaluator::call_function(const std::string& name, const Arguments& arguments) {
  if (name == "range") return make_range(runtime_, arguments);
  if (name == "namespace") return make_namespace(arguments);
  if (name == "dict") return make_dict(arguments);
  if (name == "strftime_now") return format_now(runtime_, arguments);
  const auto bound = arguments.bind({"message"});
  throw Error(bound[0] != nullptr ? text_of(runtime_, *bound[0]).bytes() : "raise_exception");
}

Value Evaluator::make_dict(const Arguments& arguments) {
  auto dict = std::make_shared<Dict>();
  if (arguments.positional.size() > 1) throw Error("too many arguments");
  if (!arguments.positional.empty()) {
    if (!arguments.positional[0].is_dict()) throw Error("dict needs a dict or named values");
    *dict = arguments.positional[0].as_dict();
    runtime_.budget.spend_steps(dict->entries().size());
  }
  for (const auto& [name, value] : arguments.named) dict->set(Value(name), value);
  return DictPtr(std::move(dict));
}

Value Evaluator::make_namespace(const Arguments& arguments) {
  const Value initial = make_dict(arguments);
  Namespace& space = namespaces_.emplace_back();
  for (const auto& [key, value] : initial.as_dict().entries()) {
    if (!key.is_text()) throw Error("attributes of a namespace are strings");
    space.check_room();
    space.attributes.emplace_back(key.bytes(), value);
  }
  return &space;
}

}  // namespace quire::jinja
