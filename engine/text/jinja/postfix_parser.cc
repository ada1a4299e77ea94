// The second half of ExpressionParser: what may stand behind a value.

#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

using Kind = Expr::Kind;

ExprPtr ExpressionParser::parse_postfix(ExprPtr object) {
  while (true) {
    if (tokens_.is_operator(".")) {
      object = parse_attribute(std::move(object));
    } else if (tokens_.is_operator("[")) {
      object = parse_subscript(std::move(object));
    } else if (tokens_.is_operator("(")) {
      object = parse_call(std::move(object));
    } else {
      return object;
    }
  }
}

ExprPtr ExpressionParser::parse_filters_and_tests(ExprPtr object) {
  while (true) {
    if (tokens_.take_operator("|")) {
      object = parse_one_filter(std::move(object));
    } else if (tokens_.take_name("is")) {
      object = parse_test(std::move(object));
    } else if (tokens_.is_operator("(")) {
      object = parse_call(std::move(object));
    } else {
      return object;
    }
  }
}

ExprPtr ExpressionParser::parse_filters(ExprPtr object) {
  tokens_.take_operator("|");
  do {
    object = parse_one_filter(std::move(object));
  } while (tokens_.take_operator("|"));
  return object;
}

ExprPtr ExpressionParser::parse_one_filter(ExprPtr object) {
  Node node = make(Kind::kFilter);
  node->name = tokens_.expect_name();
  if (!has_filter(node->name)) throw Error("no filter named '" + node->name + "'", node->at);
  node->children.push_back(std::move(object));
  if (tokens_.take_operator("(")) parse_arguments(*node);
  return finish(std::move(node));
}

/// One argument needs no parentheses: `x is divisibleby 3`.
ExprPtr ExpressionParser::parse_test(ExprPtr object) {
  const bool is_negated = tokens_.take_name("not");
  Node node = make(Kind::kTest);
  node->name = tokens_.expect_name();
  if (!has_test(node->name)) throw Error("no test named '" + node->name + "'", node->at);
  node->children.push_back(std::move(object));
  const bool takes_bare_argument =
      tokens_.is(Token::Kind::kString) || tokens_.is(Token::Kind::kInteger) ||
      tokens_.is(Token::Kind::kFloat) || tokens_.is_operator("[") || tokens_.is_operator("{") ||
      (tokens_.is(Token::Kind::kName) && !tokens_.is_name("else") && !tokens_.is_name("or") &&
       !tokens_.is_name("and"));
  if (tokens_.take_operator("(")) {
    parse_arguments(*node);
  } else if (takes_bare_argument) {
    if (tokens_.is_name("is")) tokens_.fail("tests cannot be chained");
    node->children.push_back(parse_postfix(parse_primary()));
  }
  ExprPtr test = finish(std::move(node));
  if (!is_negated) return test;
  Node negation = make(Kind::kNot);
  negation->at = test->at;
  negation->children.push_back(std::move(test));
  return finish(std::move(negation));
}

/// x.name, or x.0 for an item.
ExprPtr ExpressionParser::parse_attribute(ExprPtr object) {
  tokens_.next();
  if (tokens_.is(Token::Kind::kInteger)) {
    return binary(Kind::kSubscript, std::move(object), parse_number());
  }
  Node node = make(Kind::kAttribute);
  node->name = tokens_.expect_name();
  node->children.push_back(std::move(object));
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr object) {
  Node node = make(Kind::kSubscript);
  tokens_.next();
  node->children.push_back(std::move(object));
  if (!tokens_.is_operator(":")) node->children.push_back(parse_tuple());
  if (tokens_.is_operator(":")) {
    node->kind = Kind::kSlice;
    node->children.resize(2);
    while (tokens_.take_operator(":")) {
      if (node->children.size() == 4) tokens_.fail("a slice has at most three parts");
      const bool is_left_out = tokens_.is_operator(":") || tokens_.is_operator("]");
      node->children.push_back(is_left_out ? nullptr : parse());
    }
    node->children.resize(4);
  }
  tokens_.expect_operator("]");
  return finish(std::move(node));
}

ExprPtr ExpressionParser::parse_call(ExprPtr callee) {
  Node node = make(Kind::kCall);
  tokens_.next();
  node->children.push_back(std::move(callee));
  parse_arguments(*node);
  return finish(std::move(node));
}

/// *items or **named, each once; nothing but a name may follow.
void ExpressionParser::parse_more_arguments(Expr& call) {
  const bool is_named = tokens_.next().text == "**";
  if (call.more_named != nullptr || (!is_named && call.more_items != nullptr)) {
    tokens_.fail("an argument stands behind others that it must stand before");
  }
  (is_named ? call.more_named : call.more_items) = parse();
  if (!tokens_.is_operator(")")) tokens_.expect_operator(",");
}

/// Behind the "(".
void ExpressionParser::parse_arguments(Expr& call) {
  while (!tokens_.take_operator(")")) {
    if (tokens_.is_operator("*") || tokens_.is_operator("**")) {
      parse_more_arguments(call);
      continue;
    }
    const bool is_keyword = tokens_.is(Token::Kind::kName) &&
                            tokens_.peek(1).kind == Token::Kind::kOperator &&
                            tokens_.peek(1).text == "=";
    if (call.more_named != nullptr) tokens_.fail("expected ')'");
    if (is_keyword) {
      std::string name = tokens_.next().text;
      tokens_.next();
      call.keywords.emplace_back(std::move(name), parse());
    } else if (!call.keywords.empty() || call.more_items != nullptr) {
      tokens_.fail("expected a keyword argument");
    } else {
      call.children.push_back(parse());
    }
    if (!tokens_.is_operator(")")) tokens_.expect_operator(",");
  }
}

}  // namespace quire::jinja
