#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace quire::jinja {

/// Where something stands in a template's source; both count from 1, columns in characters.
struct Position {
  int32_t line = 0;  // 0 = unknown
  int32_t column = 0;
};

/// A template that cannot be read, or that failed while it ran. Built where the fault is known, it
/// learns its position on the way up, from the innermost node that has one.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, Position at = {})
      : std::runtime_error(at.line > 0 ? "line " + std::to_string(at.line) + ", column " +
                                             std::to_string(at.column) + ": " + message
                                       : message),
        at_(at) {}

  Position position() const { return at_; }

 private:
  Position at_;
};

}  // namespace quire::jinja
