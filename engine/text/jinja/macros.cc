#include <algorithm>

#include "engine/text/jinja/evaluator.h"

namespace quire::jinja {
namespace {

/// A macro's arguments on their way to its parameters.
class Offered {
 public:
  Offered(Budget& budget, const Arguments& arguments)
      : budget_(budget), arguments_(arguments), is_taken_(arguments.named.size()) {}

  /// The next positional argument, else the one of that name; null where there is none.
  const Value* take(std::string_view name) {
    if (num_taken_ == arguments_.positional.size()) return take_named(name);
    return &arguments_.positional[num_taken_++];
  }

  const Value* take_named(std::string_view name) {
    budget_.spend_steps(is_taken_.size());
    for (size_t i = 0; i < is_taken_.size(); ++i) {
      if (is_taken_[i] || arguments_.named[i].name.bytes() != name) continue;
      is_taken_[i] = true;
      return &arguments_.named[i].value;
    }
    return nullptr;
  }

  Value take_rest_of_positional() {
    const auto& items = arguments_.positional;
    const size_t begin = std::exchange(num_taken_, items.size());
    return Value::of_tuple({items.begin() + static_cast<std::ptrdiff_t>(begin), items.end()});
  }

  Value take_rest_of_named() {
    auto dict = std::make_shared<Dict>();
    for (size_t i = 0; i < is_taken_.size(); ++i) {
      const NamedArgument& argument = arguments_.named[i];
      if (!is_taken_[i]) dict->set(Value(argument.name), argument.value);
      is_taken_[i] = true;
    }
    return DictPtr(std::move(dict));
  }

  /// Throws Error where an argument is left over.
  void check_all_taken(const std::string& macro) const {
    if (num_taken_ < arguments_.positional.size()) {
      throw Error("macro '" + macro + "' takes not more than " + std::to_string(num_taken_) +
                  " arguments");
    }
    const auto left = std::find(is_taken_.begin(), is_taken_.end(), false);
    if (left == is_taken_.end()) return;
    const auto& name = arguments_.named[static_cast<size_t>(left - is_taken_.begin())].name;
    throw Error("macro '" + macro + "' takes no argument '" + name.bytes() + "'");
  }

 private:
  Budget& budget_;
  const Arguments& arguments_;
  size_t num_taken_ = 0;  // of the positional ones
  std::vector<bool> is_taken_;
};

}  // namespace

Value Evaluator::make_macro(const Stmt& stmt) {
  macros_.push_back({&stmt, scope_});
  return CallablePtr(std::make_shared<Callable>(Callable{stmt.name, Value(), &macros_.back()}));
}

/// A macro sees the names around its definition and its own parameters, not those of its caller.
Value Evaluator::call_macro(const Macro& macro, const Arguments& arguments) {
  const Level level(*this);
  const Stmt& definition = *macro.definition;
  auto inner = std::make_shared<Scope>();
  inner->parent = macro.scope;
  const auto outer = std::exchange(scope_, inner);
  Offered offered(runtime_.budget, arguments);
  for (const Parameter& parameter : definition.parameters) {
    const Value* given = offered.take(parameter.name);
    if (given != nullptr) inner->set(parameter.name, *given);
  }
  const Extras& extras = definition.extras;
  if (extras.has_caller) {
    const Value* caller = offered.take_named("caller");
    inner->set("caller", caller != nullptr ? *caller : Value::undefined("no caller is defined"));
  }
  if (extras.has_varargs) inner->set("varargs", offered.take_rest_of_positional());
  if (extras.has_kwargs) inner->set("kwargs", offered.take_rest_of_named());
  offered.check_all_taken(definition.name);
  set_defaults(definition, *inner);
  Flow flow = Flow::kOn;
  MarkedText text = capture(definition.body, flow);
  scope_ = outer;
  return text;
}

/// Of the parameters that were given no value, in their order: each may speak of those before it.
void Evaluator::set_defaults(const Stmt& macro, Scope& inner) {
  for (const Parameter& parameter : macro.parameters) {
    const bool is_given =
        std::any_of(inner.names.begin(), inner.names.end(),
                    [&](const auto& known) { return known.first == parameter.name; });
    if (is_given) continue;
    inner.set(parameter.name,
              parameter.fallback != nullptr
                  ? evaluate(*parameter.fallback)
                  : Value::undefined("parameter '" + parameter.name + "' was not provided"));
  }
}

/// {% call macro() %}: the macro is given what stands in the block as `caller`.
void Evaluator::execute_call(const Stmt& stmt) {
  const Value callee = evaluate(*stmt.expr->children[0]);
  Arguments arguments = evaluate_arguments(*stmt.expr);
  arguments.named.push_back({MarkedText("caller"), make_macro(stmt)});
  print(text_of(runtime_, call(callee, arguments)));
}

}  // namespace quire::jinja
