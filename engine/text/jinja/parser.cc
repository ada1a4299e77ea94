#include "engine/text/jinja/parser.h"

#include <initializer_list>

#include "engine/text/jinja/expression_parser.h"

namespace quire::jinja {
namespace {

using Kind = Stmt::Kind;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Body run() { return parse_body({}); }

 private:
  using Node = std::unique_ptr<Stmt>;

  Node make(Kind kind) const {
    auto node = std::make_unique<Stmt>();
    node->kind = kind;
    node->at = tokens_.peek().at;
    return node;
  }

  /// Statements up to a block of one of these names, whose name is the next token; to the end of
  /// the template where there are none.
  Body parse_body(std::initializer_list<std::string_view> ends) {
    if (++depth_ > kMaxTemplateDepth) tokens_.fail("statements are nested too deeply");
    Body body;
    while (!tokens_.is(Token::Kind::kEnd)) {
      if (tokens_.is(Token::Kind::kText)) {
        Node node = make(Kind::kText);
        node->text = tokens_.next().text;
        body.push_back(std::move(node));
      } else if (tokens_.is(Token::Kind::kOutputBegin)) {
        tokens_.next();
        Node node = make(Kind::kOutput);
        node->expr = expressions_.parse_tuple();
        tokens_.expect(Token::Kind::kOutputEnd, "}}");
        body.push_back(std::move(node));
      } else {
        tokens_.expect(Token::Kind::kBlockBegin, "{%");
        for (const std::string_view end : ends) {
          if (tokens_.is_name(end)) {
            --depth_;
            return body;
          }
        }
        body.push_back(parse_block());
      }
    }
    if (ends.size() > 0) tokens_.fail("expected '" + std::string(*(ends.end() - 1)) + "'");
    --depth_;
    return body;
  }

  void end_block() { tokens_.expect(Token::Kind::kBlockEnd, "%}"); }

  Body parse_body_to(std::string_view end) {
    Body body = parse_body({end});
    tokens_.next();
    end_block();
    return body;
  }

  Node parse_block() {
    if (tokens_.is_name("if")) return parse_if();
    if (tokens_.is_name("for")) return parse_for();
    if (tokens_.is_name("set")) return parse_set();
    if (tokens_.is_name("macro")) return parse_macro();
    if (tokens_.is_name("call")) return parse_call_block();
    if (tokens_.is_name("with")) return parse_with();
    if (tokens_.is_name("generation")) return parse_generation();
    if (tokens_.is_name("filter")) return parse_filter_block();
    if (tokens_.is_name("break")) return parse_jump(Kind::kBreak);
    if (tokens_.is_name("continue")) return parse_jump(Kind::kContinue);
    tokens_.fail("expected a block that chat templates know");
  }

  Node parse_if() {
    Node node = make(Kind::kIf);
    do {
      tokens_.next();
      Stmt::Branch branch;
      branch.condition = expressions_.parse_tuple();
      end_block();
      branch.body = parse_body({"elif", "else", "endif"});
      node->branches.push_back(std::move(branch));
    } while (tokens_.is_name("elif"));
    if (tokens_.take_name("else")) {
      end_block();
      node->otherwise = parse_body({"endif"});
    }
    tokens_.expect_name("endif");
    end_block();
    return node;
  }

  Node parse_for() {
    Node node = make(Kind::kFor);
    tokens_.next();
    node->target = parse_target();
    tokens_.expect_name("in");
    node->expr = expressions_.parse_tuple_no_condition();
    if (tokens_.take_name("if")) node->condition = expressions_.parse();
    node->is_recursive = tokens_.take_name("recursive");
    end_block();
    ++num_loops_;
    node->body = parse_body({"else", "endfor"});
    --num_loops_;
    if (tokens_.take_name("else")) {
      end_block();
      node->otherwise = parse_body({"endfor"});
    }
    tokens_.expect_name("endfor");
    end_block();
    return node;
  }

  Target parse_one_target() {
    Target target;
    if (tokens_.take_operator("(")) {
      target = parse_target();
      tokens_.expect_operator(")");
      return target;
    }
    const Position at = tokens_.peek().at;
    target.name = tokens_.expect_name();
    for (const std::string_view word : {"true", "false", "none", "True", "False", "None", "loop"}) {
      if (target.name == word) throw Error("'" + target.name + "' cannot be assigned to", at);
    }
    if (tokens_.take_operator(".")) target.attribute = tokens_.expect_name();
    return target;
  }

  Target parse_target() {
    if (++depth_ > kMaxTemplateDepth) tokens_.fail("targets are nested too deeply");
    Target first = parse_one_target();
    --depth_;
    if (!tokens_.is_operator(",")) return first;
    Target tuple;
    tuple.parts.push_back(std::move(first));
    while (tokens_.take_operator(",")) {
      if (tokens_.is_name("in") || tokens_.is_operator("=") || tokens_.is_operator(")")) break;
      tuple.parts.push_back(parse_one_target());
    }
    return tuple;
  }

  Node parse_set() {
    Node node = make(Kind::kSet);
    tokens_.next();
    node->target = parse_target();
    if (tokens_.take_operator("=")) {
      node->expr = expressions_.parse_tuple();
      end_block();
      return node;
    }
    node->kind = Kind::kSetBlock;
    if (tokens_.is_operator("|")) node->filters = expressions_.parse_filters(nullptr);
    end_block();
    node->body = parse_body_to("endset");
    return node;
  }

  Node parse_macro() {
    Node node = make(Kind::kMacro);
    tokens_.next();
    node->name = tokens_.expect_name();
    parse_parameters(*node);
    end_block();
    parse_macro_body(*node, "endmacro");
    if (tokens_.is_name(node->name)) tokens_.next();
    end_block();
    return node;
  }

  void parse_parameters(Stmt& macro) {
    tokens_.expect_operator("(");
    while (!tokens_.take_operator(")")) {
      Parameter parameter;
      parameter.name = tokens_.expect_name();
      if (tokens_.take_operator("=")) {
        parameter.fallback = expressions_.parse();
      } else if (parameter.name == "caller") {
        tokens_.fail("expected a default of the parameter 'caller'");
      } else if (!macro.parameters.empty() && macro.parameters.back().fallback != nullptr) {
        tokens_.fail("a parameter without default follows one with");
      }
      macro.parameters.push_back(std::move(parameter));
      if (!tokens_.is_operator(")")) tokens_.expect_operator(",");
    }
  }

  void parse_macro_body(Stmt& macro, std::string_view end) {
    const int32_t num_loops = std::exchange(num_loops_, 0);
    const size_t begin = tokens_.position();
    macro.body = parse_body({end});
    num_loops_ = num_loops;
    const auto is_extra = [&](std::string_view name) {
      for (const Parameter& parameter : macro.parameters) {
        if (parameter.name == name) return false;
      }
      return tokens_.names_since(begin, name);
    };
    macro.extras = {is_extra("caller"), is_extra("varargs"), is_extra("kwargs")};
    tokens_.next();
  }

  /// {% call(parameters) macro(arguments) %} … {% endcall %}
  Node parse_call_block() {
    Node node = make(Kind::kCall);
    tokens_.next();
    if (tokens_.is_operator("(")) parse_parameters(*node);
    node->expr = expressions_.parse();
    if (node->expr->kind != Expr::Kind::kCall) tokens_.fail("expected the call of a macro");
    end_block();
    parse_macro_body(*node, "endcall");
    end_block();
    return node;
  }

  Node parse_with() {
    Node node = make(Kind::kWith);
    tokens_.next();
    while (!tokens_.is(Token::Kind::kBlockEnd)) {
      if (!node->bindings.empty()) tokens_.expect_operator(",");
      Binding binding;
      binding.target = parse_target();
      if (!binding.target.attribute.empty()) tokens_.fail("expected a name to set");
      tokens_.expect_operator("=");
      binding.value = expressions_.parse();
      node->bindings.push_back(std::move(binding));
    }
    end_block();
    node->body = parse_body_to("endwith");
    return node;
  }

  Node parse_generation() {
    Node node = make(Kind::kScope);
    tokens_.next();
    end_block();
    node->body = parse_body_to("endgeneration");
    return node;
  }

  Node parse_filter_block() {
    Node node = make(Kind::kFilter);
    tokens_.next();
    node->filters = expressions_.parse_filters(nullptr);
    end_block();
    node->body = parse_body_to("endfilter");
    return node;
  }

  Node parse_jump(Kind kind) {
    Node node = make(kind);
    if (num_loops_ == 0) tokens_.fail("expected a block that may stand outside a loop");
    tokens_.next();
    end_block();
    return node;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int32_t depth_ = 0;
  int32_t num_loops_ = 0;
};

}  // namespace

Body parse_template(std::string_view source) { return Parser(source).run(); }

}  // namespace quire::jinja
