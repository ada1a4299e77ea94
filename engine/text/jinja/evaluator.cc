#include "engine/text/jinja/evaluator.h"

namespace quire::jinja {

using Kind = Expr::Kind;

namespace {

/// Names that are looked at in a step; few templates have more.
constexpr size_t kNamesOfStep = 64;

}  // namespace

void Scope::set(std::string_view name, Value value) {
  for (auto& [known, held] : names) {
    if (known == name) {
      held = std::move(value);
      return;
    }
  }
  names.emplace_back(name, std::move(value));
}

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [known, value] : scope->names) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

size_t Scope::num_names() const {
  size_t count = 0;
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    count += scope->names.size();
  }
  return count;
}

Evaluator::Evaluator(const Limits& limits)
    : runtime_(limits), globals_(std::make_shared<Scope>()), scope_(globals_) {
  for (const char* name : {"range", "namespace", "dict", "raise_exception", "strftime_now"}) {
    define(name, CallablePtr(std::make_shared<Callable>(Callable{name, Value(), nullptr})));
  }
}

Value Evaluator::evaluate(const Expr& expr) {
  try {
    const Level level(*this);
    runtime_.budget.spend_steps(1);
    return evaluate_kind(expr);
  } catch (const Error& error) {
    if (error.position().line > 0) throw;
    throw Error(error.what(), expr.at);
  }
}

Value Evaluator::evaluate_kind(const Expr& expr) {
  const auto operand = [&](size_t i) { return evaluate(*expr.children[i]); };
  switch (expr.kind) {
    case Kind::kLiteral:
      return expr.literal;
    case Kind::kName:
      return evaluate_name(expr);
    case Kind::kList:
    case Kind::kTuple:
      return evaluate_items(expr);
    case Kind::kDict:
      return evaluate_dict(expr);
    case Kind::kAttribute:
      return attribute_of(operand(0), expr.name);
    case Kind::kSubscript: {
      const Value object = operand(0);
      return item_of(runtime_, object, operand(1));
    }
    case Kind::kSlice:
      return evaluate_slice(expr);
    case Kind::kCall: {
      const Value callee = operand(0);
      return call(callee, evaluate_arguments(expr));
    }
    case Kind::kFilter:
      return evaluate_filter(expr);
    case Kind::kTest: {
      const Value object = operand(0);
      return Value::of_bool(apply_test(runtime_, expr.name, object, evaluate_arguments(expr)));
    }
    case Kind::kNegate:
      return negate(operand(0));
    case Kind::kPositive:
      return subtract(operand(0), Value::of_int(0));
    case Kind::kNot:
      return Value::of_bool(!operand(0).is_true());
    case Kind::kAnd:
    case Kind::kOr: {
      Value left = operand(0);
      return left.is_true() == (expr.kind == Kind::kOr) ? left : operand(1);
    }
    case Kind::kCompare:
      return evaluate_compare(expr);
    case Kind::kArithmetic:
      return evaluate_arithmetic(expr);
    case Kind::kConcat:
      return evaluate_concat(expr);
    case Kind::kConditional:
      return evaluate_conditional(expr);
  }
  throw Error("an expression of no kind", expr.at);
}

void Evaluator::spend_lookup() { runtime_.budget.spend_steps(scope_->num_names() / kNamesOfStep); }

Value Evaluator::evaluate_name(const Expr& expr) {
  spend_lookup();
  const Value* value = scope_->find(expr.name);
  return value != nullptr ? *value : Value::undefined("'" + expr.name + "' is undefined");
}

Value Evaluator::evaluate_items(const Expr& expr) {
  std::vector<Value> items;
  items.reserve(expr.children.size());
  for (const ExprPtr& child : expr.children) items.push_back(evaluate(*child));
  return expr.kind == Kind::kList ? Value::of_list(std::move(items))
                                  : Value::of_tuple(std::move(items));
}

Value Evaluator::evaluate_dict(const Expr& expr) {
  auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    Value key = evaluate(*expr.children[i]);
    if (key.is_text()) runtime_.budget.spend_reading(key.bytes().size());
    dict->set(std::move(key), evaluate(*expr.children[i + 1]));
  }
  return DictPtr(std::move(dict));
}

Value Evaluator::evaluate_slice(const Expr& expr) {
  const Value object = evaluate(*expr.children[0]);
  Value parts[3] = {None(), None(), None()};
  for (size_t i = 0; i < 3; ++i) {
    if (expr.children[i + 1] != nullptr) parts[i] = evaluate(*expr.children[i + 1]);
  }
  return slice_of(runtime_, object, &parts[0], &parts[1], &parts[2]);
}

/// a < b < c holds where both do, and each operand is evaluated once.
Value Evaluator::evaluate_compare(const Expr& expr) {
  Value left = evaluate(*expr.children[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = evaluate(*expr.children[i + 1]);
    bool holds = false;
    switch (expr.operators[i]) {
      case Operator::kEqual:
        holds = equals(runtime_, left, right);
        break;
      case Operator::kNotEqual:
        holds = !equals(runtime_, left, right);
        break;
      case Operator::kLess:
        holds = compare(runtime_, left, right) < 0;
        break;
      case Operator::kLessEqual:
        holds = compare(runtime_, left, right) <= 0;
        break;
      case Operator::kGreater:
        holds = compare(runtime_, left, right) > 0;
        break;
      case Operator::kGreaterEqual:
        holds = compare(runtime_, left, right) >= 0;
        break;
      case Operator::kIn:
        holds = contains(runtime_, right, left);
        break;
      default:
        holds = !contains(runtime_, right, left);
        break;
    }
    if (!holds) return Value::of_bool(false);
    left = std::move(right);
  }
  return Value::of_bool(true);
}

Value Evaluator::evaluate_arithmetic(const Expr& expr) {
  const Value left = evaluate(*expr.children[0]);
  const Value right = evaluate(*expr.children[1]);
  switch (expr.operators[0]) {
    case Operator::kAdd:
      return add(runtime_, left, right);
    case Operator::kSubtract:
      return subtract(left, right);
    case Operator::kMultiply:
      return multiply(runtime_, left, right);
    case Operator::kDivide:
      return divide(left, right);
    case Operator::kFloorDivide:
      return floor_divide(left, right);
    case Operator::kModulo:
      return modulo(runtime_, left, right);
    default:
      return power(left, right);
  }
}

Value Evaluator::evaluate_concat(const Expr& expr) {
  std::vector<Value> parts;
  for (const ExprPtr& child : expr.children) parts.push_back(evaluate(*child));
  return join(runtime_, parts, MarkedText());
}

Value Evaluator::evaluate_conditional(const Expr& expr) {
  if (evaluate(*expr.children[0]).is_true()) return evaluate(*expr.children[1]);
  if (expr.children[2] != nullptr) return evaluate(*expr.children[2]);
  return Value::undefined("the condition does not hold and there is no else");
}

Value Evaluator::evaluate_filter(const Expr& expr) {
  const Value object = expr.children[0] != nullptr ? evaluate(*expr.children[0]) : *filtered_;
  return apply_filter(runtime_, expr.name, object, evaluate_arguments(expr));
}

Arguments Evaluator::evaluate_arguments(const Expr& expr) {
  Arguments arguments;
  for (size_t i = 1; i < expr.children.size(); ++i) {
    arguments.positional.push_back(evaluate(*expr.children[i]));
  }
  for (const auto& [name, value] : expr.keywords) {
    arguments.named.push_back({MarkedText(name), evaluate(*value)});
  }
  if (expr.more_items != nullptr) {
    for (Value& item : items_of(runtime_, evaluate(*expr.more_items))) {
      arguments.positional.push_back(std::move(item));
    }
  }
  if (expr.more_named != nullptr) {
    const Value more = evaluate(*expr.more_named);
    if (!more.is_dict()) throw Error("a dict is needed behind **");
    runtime_.budget.spend_steps(more.as_dict().entries().size());
    for (const auto& [name, value] : more.as_dict().entries()) {
      if (!name.is_text()) throw Error("names of arguments are strings");
      arguments.named.push_back({name.as_text(), value});
    }
  }
  return arguments;
}

}  // namespace quire::jinja
