#include <cmath>
#include <limits>

#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

[[noreturn]] void throw_operands(std::string_view sign, const Value& left, const Value& right) {
  if (left.is_undefined()) throw_undefined(left);
  if (right.is_undefined()) throw_undefined(right);
  throw Error("operator " + std::string(sign) + " cannot take '" + std::string(left.type_name()) +
              "' and '" + std::string(right.type_name()) + "'");
}

[[noreturn]] void throw_overflow() { throw Error("a whole number is beyond 64 bits"); }

bool are_numbers(const Value& left, const Value& right) {
  return left.is_number() && right.is_number();
}
bool are_whole(const Value& left, const Value& right) {
  return are_numbers(left, right) && !left.is_float() && !right.is_float();
}

Value repeat(Runtime& runtime, const Value& value, int64_t count) {
  const size_t times = count > 0 ? static_cast<size_t>(count) : 0;
  if (value.is_text()) {
    const size_t size = value.bytes().size();
    if (size > 0 && times > std::numeric_limits<size_t>::max() / 2 / size) throw_overflow();
    runtime.budget.spend_bytes(size * times);
    MarkedText text;
    for (size_t i = 0; i < times && size > 0; ++i) text.append(value.as_text());
    return text;
  }
  std::vector<Value> items;
  for (size_t i = 0; i < times && !value.items().empty(); ++i) {
    runtime.budget.spend_steps(value.items().size());
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.as_list().is_tuple ? Value::of_tuple(std::move(items))
                                  : Value::of_list(std::move(items));
}

}  // namespace

Value add(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_text() && right.is_text()) {
    runtime.budget.spend_bytes(left.bytes().size() + right.bytes().size());
    MarkedText text = left.as_text();
    text.append(right.as_text());
    return text;
  }
  if (are_whole(left, right)) {
    int64_t sum = 0;
    if (__builtin_add_overflow(left.as_int(), right.as_int(), &sum)) throw_overflow();
    return Value::of_int(sum);
  }
  if (are_numbers(left, right)) return Value::of_float(left.as_float() + right.as_float());
  if (left.is_list() && right.is_list() && left.as_list().is_tuple == right.as_list().is_tuple) {
    runtime.budget.spend_steps(left.items().size() + right.items().size());
    std::vector<Value> items = left.items();
    items.insert(items.end(), right.items().begin(), right.items().end());
    return left.as_list().is_tuple ? Value::of_tuple(std::move(items))
                                   : Value::of_list(std::move(items));
  }
  throw_operands("+", left, right);
}

Value subtract(const Value& left, const Value& right) {
  if (!are_numbers(left, right)) throw_operands("-", left, right);
  if (!are_whole(left, right)) return Value::of_float(left.as_float() - right.as_float());
  int64_t difference = 0;
  if (__builtin_sub_overflow(left.as_int(), right.as_int(), &difference)) throw_overflow();
  return Value::of_int(difference);
}

Value multiply(Runtime& runtime, const Value& left, const Value& right) {
  if (are_whole(left, right)) {
    int64_t product = 0;
    if (__builtin_mul_overflow(left.as_int(), right.as_int(), &product)) throw_overflow();
    return Value::of_int(product);
  }
  if (are_numbers(left, right)) return Value::of_float(left.as_float() * right.as_float());
  const bool left_repeats = left.is_text() || left.is_list();
  const Value& many = left_repeats ? left : right;
  const Value& count = left_repeats ? right : left;
  const bool can_repeat = (many.is_text() || many.is_list()) && count.is_number();
  if (!can_repeat || count.is_float()) throw_operands("*", left, right);
  return repeat(runtime, many, count.as_int());
}

Value divide(const Value& left, const Value& right) {
  if (!are_numbers(left, right)) throw_operands("/", left, right);
  if (right.as_float() == 0) throw Error("division by zero");
  return Value::of_float(left.as_float() / right.as_float());
}

Value floor_divide(const Value& left, const Value& right) {
  if (!are_numbers(left, right)) throw_operands("//", left, right);
  if (right.as_float() == 0) throw Error("division by zero");
  if (!are_whole(left, right))
    return Value::of_float(std::floor(left.as_float() / right.as_float()));
  const int64_t a = left.as_int(), b = right.as_int();
  if (b == -1) return negate(left);  // the one quotient that can overflow
  const int64_t quotient = a / b;
  return Value::of_int(a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient);
}

Value modulo(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_text()) return format_percent(runtime, left.as_text(), right);
  if (!are_numbers(left, right)) throw_operands("%", left, right);
  if (right.as_float() == 0) throw Error("division by zero");
  if (!are_whole(left, right)) {
    const double divisor = right.as_float();
    const double rest = std::fmod(left.as_float(), divisor);
    if (rest == 0) return Value::of_float(std::copysign(0.0, divisor));
    return Value::of_float((rest < 0) != (divisor < 0) ? rest + divisor : rest);
  }
  const int64_t b = right.as_int();
  if (b == -1) return Value::of_int(0);
  const int64_t rest = left.as_int() % b;
  return Value::of_int(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

Value power(const Value& left, const Value& right) {
  if (!are_numbers(left, right)) throw_operands("**", left, right);
  if (!are_whole(left, right) || right.as_int() < 0) {
    if (left.as_float() == 0 && right.as_float() < 0) throw Error("division by zero");
    return Value::of_float(std::pow(left.as_float(), right.as_float()));
  }
  int64_t result = 1, base = left.as_int();
  for (int64_t exponent = right.as_int(); exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1 && __builtin_mul_overflow(result, base, &result)) throw_overflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) throw_overflow();
  }
  return Value::of_int(result);
}

Value negate(const Value& operand) {
  if (operand.is_undefined()) throw_undefined(operand);
  if (!operand.is_number()) {
    throw Error("a value of type '" + std::string(operand.type_name()) + "' has no negative");
  }
  if (operand.is_float()) return Value::of_float(-operand.as_float());
  return subtract(Value::of_int(0), operand);
}

}  // namespace quire::jinja
