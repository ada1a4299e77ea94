#pragma once

#include <string>

#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

/// How a field of a format string wants its value laid out.
struct Layout {
  MarkedText fill{" "};
  char align = 0;  // '<', '>', '^' or '=', which fills between sign and digits; 0 = none given
  char sign = 0;   // '+' or ' ': what stands before numbers that are not negative
  bool is_alternate = false;
  char grouping = 0;  // ',' or '_' between thousands
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

/// A number's sign, with what says its base, and its digits.
struct NumberText {
  std::string sign;
  std::string digits;
};

/// Throws Error for a type that the number cannot have.
NumberText number_text(const Value& number, const Layout& layout);

}  // namespace quire::jinja
