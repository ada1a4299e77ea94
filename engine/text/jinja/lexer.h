#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/error.h"

namespace quire::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,         // template text, white space already trimmed
    kOutputBegin,  // {{
    kOutputEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,  // with its escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  Position at;
};

/// Cuts a template into tokens; comments are gone and {% raw %} is text. White space follows
/// trim_blocks and lstrip_blocks, which chat templates are written for: the newline behind a block
/// goes, and so does the indentation before one. One final newline of the source is dropped. Throws
/// Error.
std::vector<Token> tokenize(std::string_view source);

}  // namespace quire::jinja
