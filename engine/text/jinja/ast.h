#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/jinja/error.h"
#include "engine/text/jinja/value.h"

namespace quire::jinja {

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Expr;
using ExprPtr = std::unique_ptr<const Expr>;

/// One expression. The kinds share one shape: what `children` are is said beside each.
struct Expr {
  enum class Kind : uint8_t {
    kLiteral,      // literal
    kName,         // name
    kList,         // children: items
    kTuple,        // children: items
    kDict,         // children: key, value, key, value, …
    kAttribute,    // children: object; name
    kSubscript,    // children: object, index
    kSlice,        // children: object, begin, end, step; null where left out
    kCall,         // children: callee, arguments; keywords; more_items, more_named
    kFilter,       // children: object (null in a filter block), arguments; name, keywords
    kTest,         // the same
    kNegate,       // children: operand
    kPositive,     // children: operand
    kNot,          // children: operand
    kAnd,          // children: left, right
    kOr,           // children: left, right
    kCompare,      // children: n + 1 operands of n operators
    kArithmetic,   // children: left, right; one operator
    kConcat,       // children: operands
    kConditional,  // children: condition, then, else (may be null)
  };
  Kind kind = Kind::kLiteral;
  Position at;
  int32_t depth = 1;  // levels of this tree; bounded, because everything that walks it recurses
  Value literal;
  std::string name;
  std::vector<ExprPtr> children;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr more_items;  // f(*more_items); may be null
  ExprPtr more_named;  // f(**more_named); may be null
  std::vector<Operator> operators;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<const Stmt>>;

/// A target of set and for: a name, an attribute of a namespace, or several of them.
struct Target {
  std::string name;
  std::string attribute;      // empty = the name itself
  std::vector<Target> parts;  // not empty = a tuple is taken apart
};

struct Parameter {
  std::string name;
  ExprPtr fallback;  // null = none
};

/// One of the names of {% with %}.
struct Binding {
  Target target;
  ExprPtr value;
};

/// What a macro takes beside its parameters, because its body speaks of it.
struct Extras {
  bool has_caller = false;
  bool has_varargs = false;
  bool has_kwargs = false;
};

struct Stmt {
  enum class Kind : uint8_t {
    kText,      // text
    kOutput,    // expr
    kIf,        // branches, otherwise
    kFor,       // target, expr, condition (may be null), body, otherwise; is_recursive
    kSet,       // target, expr
    kSetBlock,  // target, body, filters
    kMacro,     // name, parameters, extras, body
    kCall,      // expr: the call; parameters, extras, body: the macro that it is given as caller
    kWith,      // bindings, body
    kScope,     // body, as it stands: {% generation %}
    kFilter,    // body, filters
    kBreak,
    kContinue,
  };
  struct Branch {
    ExprPtr condition;
    Body body;
  };
  Kind kind = Kind::kText;
  Position at;
  std::string text;
  std::string name;
  ExprPtr expr;
  ExprPtr condition;
  ExprPtr filters;  // a chain of filters whose innermost object is null; may be null
  Target target;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  Extras extras;
  std::vector<Binding> bindings;
  bool is_recursive = false;
  Body body;
  Body otherwise;
};

}  // namespace quire::jinja
