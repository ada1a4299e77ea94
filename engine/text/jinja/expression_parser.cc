#include "engine/text/jinja/expression_parser.h"

#include <charconv>
#include <cstdlib>

namespace quire::jinja {

using Kind = Expr::Kind;

/// One level of recursion in the source: brackets, not, a sign.
struct ExpressionParser::Level {
  explicit Level(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.depth_ > kMaxTemplateDepth) {
      parser_.tokens_.fail("an expression is nested too deeply");
    }
  }
  ~Level() { --parser_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;
  ExpressionParser& parser_;
};

ExpressionParser::Node ExpressionParser::make(Kind kind) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->at = tokens_.peek().at;
  return node;
}

/// Long chains like a.b.c or a + b + c are deep trees without recursion here: bounded as well.
ExprPtr ExpressionParser::finish(Node node) const {
  int32_t depth = 0;
  for (const ExprPtr& child : node->children) {
    if (child != nullptr) depth = std::max(depth, child->depth);
  }
  for (const auto& keyword : node->keywords) depth = std::max(depth, keyword.second->depth);
  for (const ExprPtr* more : {&node->more_items, &node->more_named}) {
    if (*more != nullptr) depth = std::max(depth, (*more)->depth);
  }
  if (depth >= kMaxTemplateDepth) throw Error("an expression is nested too deeply", node->at);
  node->depth = depth + 1;
  return node;
}

ExprPtr ExpressionParser::binary(Kind kind, ExprPtr left, ExprPtr right) const {
  Node node = make(kind);
  node->at = left->at;
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse() {
  const Level level(*this);
  ExprPtr value = parse_or();
  while (tokens_.is_name("if")) {
    Node node = make(Kind::kConditional);
    tokens_.next();
    node->children.push_back(parse_or());
    node->children.push_back(std::move(value));
    node->children.push_back(tokens_.take_name("else") ? parse() : nullptr);
    value = finish(std::move(node));
  }
  return value;
}

ExprPtr ExpressionParser::parse_no_condition() { return parse_or(); }

ExprPtr ExpressionParser::parse_tuple() { return parse_tuple_of(&ExpressionParser::parse); }

ExprPtr ExpressionParser::parse_tuple_no_condition() {
  return parse_tuple_of(&ExpressionParser::parse_no_condition);
}

ExprPtr ExpressionParser::parse_tuple_of(ExprPtr (ExpressionParser::*item)()) {
  Node tuple = make(Kind::kTuple);
  tuple->children.push_back((this->*item)());
  if (!tokens_.is_operator(",")) return std::move(tuple->children.front());
  while (tokens_.take_operator(",")) {
    const bool is_at_end = tokens_.is(Token::Kind::kBlockEnd) ||
                           tokens_.is(Token::Kind::kOutputEnd) || tokens_.is_operator(")");
    if (is_at_end) break;
    tuple->children.push_back((this->*item)());
  }
  return finish(std::move(tuple));
}

ExprPtr ExpressionParser::parse_or() {
  ExprPtr left = parse_and();
  while (tokens_.take_name("or")) left = binary(Kind::kOr, std::move(left), parse_and());
  return left;
}

ExprPtr ExpressionParser::parse_and() {
  ExprPtr left = parse_not();
  while (tokens_.take_name("and")) left = binary(Kind::kAnd, std::move(left), parse_not());
  return left;
}

ExprPtr ExpressionParser::parse_not() {
  if (!tokens_.is_name("not")) return parse_compare();
  const Level level(*this);
  Node node = make(Kind::kNot);
  tokens_.next();
  node->children.push_back(parse_not());
  return finish(std::move(node));
}

bool ExpressionParser::take_comparison(Operator& op) {
  static constexpr std::pair<std::string_view, Operator> kSigns[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual}};
  for (const auto& [sign, meaning] : kSigns) {
    if (tokens_.take_operator(sign)) {
      op = meaning;
      return true;
    }
  }
  if (tokens_.take_name("in")) {
    op = Operator::kIn;
    return true;
  }
  const bool is_not_in = tokens_.is_name("not") && tokens_.peek(1).kind == Token::Kind::kName &&
                         tokens_.peek(1).text == "in";
  if (!is_not_in) return false;
  tokens_.next();
  tokens_.next();
  op = Operator::kNotIn;
  return true;
}

ExprPtr ExpressionParser::parse_compare() {
  Node node = make(Kind::kCompare);
  node->children.push_back(parse_sum());
  for (Operator op; take_comparison(op);) {
    node->operators.push_back(op);
    node->children.push_back(parse_sum());
  }
  if (node->operators.empty()) return std::move(node->children.front());
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse_sum() {
  ExprPtr left = parse_concat();
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    Node node = make(Kind::kArithmetic);
    node->operators = {tokens_.next().text == "+" ? Operator::kAdd : Operator::kSubtract};
    node->children.push_back(std::move(left));
    node->children.push_back(parse_concat());
    left = finish(std::move(node));
  }
  return left;
}

ExprPtr ExpressionParser::parse_concat() {
  Node node = make(Kind::kConcat);
  node->children.push_back(parse_product());
  while (tokens_.take_operator("~")) node->children.push_back(parse_product());
  if (node->children.size() == 1) return std::move(node->children.front());
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse_product() {
  static constexpr std::pair<std::string_view, Operator> kSigns[] = {{"*", Operator::kMultiply},
                                                                     {"/", Operator::kDivide},
                                                                     {"//", Operator::kFloorDivide},
                                                                     {"%", Operator::kModulo}};
  ExprPtr left = parse_power();
  for (bool is_product = true; is_product;) {
    is_product = false;
    for (const auto& [sign, op] : kSigns) {
      if (!tokens_.is_operator(sign)) continue;
      Node node = make(Kind::kArithmetic);
      tokens_.next();
      node->operators = {op};
      node->children.push_back(std::move(left));
      node->children.push_back(parse_power());
      left = finish(std::move(node));
      is_product = true;
    }
  }
  return left;
}

/// Unlike Python's, Jinja's ** is taken from the left and binds weaker than a sign.
ExprPtr ExpressionParser::parse_power() {
  ExprPtr left = parse_unary();
  while (tokens_.is_operator("**")) {
    Node node = make(Kind::kArithmetic);
    tokens_.next();
    node->operators = {Operator::kPower};
    node->children.push_back(std::move(left));
    node->children.push_back(parse_unary());
    left = finish(std::move(node));
  }
  return left;
}

ExprPtr ExpressionParser::parse_unary() { return parse_filters_and_tests(parse_signed()); }

/// A sign binds tighter than the filters behind its operand.
ExprPtr ExpressionParser::parse_signed() {
  if (!tokens_.is_operator("-") && !tokens_.is_operator("+")) {
    return parse_postfix(parse_primary());
  }
  const Level level(*this);
  Node node = make(tokens_.is_operator("-") ? Kind::kNegate : Kind::kPositive);
  tokens_.next();
  node->children.push_back(parse_signed());
  return parse_postfix(finish(std::move(node)));
}

ExprPtr ExpressionParser::parse_primary() {
  if (tokens_.is(Token::Kind::kName)) return parse_name();
  if (tokens_.is(Token::Kind::kInteger) || tokens_.is(Token::Kind::kFloat)) return parse_number();
  if (tokens_.is(Token::Kind::kString)) {
    Node node = make(Kind::kLiteral);
    std::string text;
    while (tokens_.is(Token::Kind::kString)) text += tokens_.next().text;
    node->literal = Value::of_text(text);
    return node;
  }
  if (tokens_.is_operator("(")) return parse_in_parentheses();
  if (tokens_.is_operator("[")) return parse_list();
  if (tokens_.is_operator("{")) return parse_dict();
  tokens_.fail("expected an expression");
}

ExprPtr ExpressionParser::parse_name() {
  Node node = make(Kind::kLiteral);
  std::string name = tokens_.next().text;
  if (name == "true" || name == "True") {
    node->literal = Value::of_bool(true);
  } else if (name == "false" || name == "False") {
    node->literal = Value::of_bool(false);
  } else if (name == "none" || name == "None") {
    node->literal = None();
  } else {
    node->kind = Kind::kName;
    node->name = std::move(name);
  }
  return node;
}

ExprPtr ExpressionParser::parse_number() {
  Node node = make(Kind::kLiteral);
  const Token& token = tokens_.next();
  if (token.kind == Token::Kind::kFloat) {
    node->literal = Value::of_float(std::strtod(token.text.c_str(), nullptr));
    return node;
  }
  int64_t number = 0;
  const char* end = token.text.data() + token.text.size();
  if (std::from_chars(token.text.data(), end, number).ec != std::errc()) {
    throw Error("a number is beyond 64 bits", token.at);
  }
  node->literal = Value::of_int(number);
  return node;
}

ExprPtr ExpressionParser::parse_list() {
  Node node = make(Kind::kList);
  tokens_.next();
  while (!tokens_.is_operator("]")) {
    node->children.push_back(parse());
    if (!tokens_.is_operator("]")) tokens_.expect_operator(",");
  }
  tokens_.next();
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse_dict() {
  Node node = make(Kind::kDict);
  tokens_.next();
  while (!tokens_.is_operator("}")) {
    node->children.push_back(parse());
    tokens_.expect_operator(":");
    node->children.push_back(parse());
    if (!tokens_.is_operator("}")) tokens_.expect_operator(",");
  }
  tokens_.next();
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse_in_parentheses() {
  Node empty = make(Kind::kTuple);
  tokens_.next();
  if (tokens_.take_operator(")")) return empty;
  ExprPtr inner = parse_tuple();
  tokens_.expect_operator(")");
  return inner;
}

}  // namespace quire::jinja
