#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/lexer.h"

namespace quire::jinja {

/// Tokens under a cursor; what a parser asks of them.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(pos_ + ahead, tokens_.size() - 1)];
  }
  const Token& next() {
    const Token& token = peek();
    if (pos_ + 1 < tokens_.size()) ++pos_;
    return token;
  }
  bool is(Token::Kind kind) const { return peek().kind == kind; }
  bool is_name(std::string_view name) const {
    return is(Token::Kind::kName) && peek().text == name;
  }
  bool is_operator(std::string_view text) const {
    return is(Token::Kind::kOperator) && peek().text == text;
  }
  bool take_name(std::string_view name) { return is_name(name) && (next(), true); }
  bool take_operator(std::string_view text) { return is_operator(text) && (next(), true); }

  std::string expect_name() {
    if (!is(Token::Kind::kName)) fail("expected a name");
    return next().text;
  }
  void expect_name(std::string_view name) {
    if (!take_name(name)) fail("expected '" + std::string(name) + "'");
  }
  void expect_operator(std::string_view text) {
    if (!take_operator(text)) fail("expected '" + std::string(text) + "'");
  }
  void expect(Token::Kind kind, std::string_view shown) {
    if (!is(kind)) fail("expected '" + std::string(shown) + "'");
    next();
  }

  size_t position() const { return pos_; }
  /// Whether `name` stands for a value somewhere between there and the cursor.
  bool names_since(size_t begin, std::string_view name) const {
    for (size_t i = begin; i < pos_; ++i) {
      const bool is_part = i > 0 && (tokens_[i - 1].text == "." || tokens_[i - 1].text == "|");
      if (tokens_[i].kind == Token::Kind::kName && tokens_[i].text == name && !is_part) return true;
    }
    return false;
  }

  [[noreturn]] void fail(const std::string& message) const {
    const std::string found = is(Token::Kind::kEnd)    ? "the end of the template"
                              : is(Token::Kind::kText) ? "text"
                                                       : "'" + peek().text + "'";
    throw Error(message + ", not " + found, peek().at);
  }

 private:
  std::vector<Token> tokens_;
  size_t pos_ = 0;
};

}  // namespace quire::jinja
