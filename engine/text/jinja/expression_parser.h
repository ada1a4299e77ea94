#pragma once

#include <string_view>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/token_stream.h"

namespace quire::jinja {

/// Levels of an expression and of nested statements; they bound the stack of everything that walks
/// a template.
inline constexpr int32_t kMaxTemplateDepth = 100;

/// Reads expressions, by recursive descent in the order of precedence. Every function throws Error.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExprPtr parse();               // one expression
  ExprPtr parse_no_condition();  // one that leaves an `if` behind it alone
  ExprPtr parse_tuple();         // one, or several between commas
  ExprPtr parse_tuple_no_condition();
  /// `| filter | …` onto `object`, which may be null. The cursor stands on the first filter's name
  /// or on a "|".
  ExprPtr parse_filters(ExprPtr object);

 private:
  using Node = std::unique_ptr<Expr>;
  struct Level;

  Node make(Expr::Kind kind) const;
  ExprPtr finish(Node node) const;
  ExprPtr binary(Expr::Kind kind, ExprPtr left, ExprPtr right) const;

  ExprPtr parse_tuple_of(ExprPtr (ExpressionParser::*item)());
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  bool take_comparison(Operator& op);
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary();
  ExprPtr parse_signed();
  ExprPtr parse_primary();
  ExprPtr parse_name();
  ExprPtr parse_number();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_in_parentheses();
  ExprPtr parse_postfix(ExprPtr object);
  ExprPtr parse_filters_and_tests(ExprPtr object);
  ExprPtr parse_one_filter(ExprPtr object);
  ExprPtr parse_test(ExprPtr object);
  ExprPtr parse_attribute(ExprPtr object);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_call(ExprPtr callee);
  void parse_arguments(Expr& call);
  void parse_more_arguments(Expr& call);

  TokenStream& tokens_;
  int32_t depth_ = 0;
};

}  // namespace quire::jinja
