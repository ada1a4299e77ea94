#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace quire {

/// A broken contract between two pieces of our own code: a shape, an index, an invariant. Never
/// the user's fault and never thrown on request data alone. The engine catches it at the step
/// boundary and fails that step's sequences.
class ContractError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace internal {

/// Collects `<<` operands and throws ContractError when destroyed at the end of the statement.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    message_ << file << ':' << line << ": check failed: " << condition << ' ';
  }
  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;
  [[noreturn]] ~CheckFailure() noexcept(false) { throw ContractError(message_.str()); }

  template <class T>
  CheckFailure& operator<<(const T& value) {
    message_ << value;
    return *this;
  }

 private:
  std::ostringstream message_;
};

}  // namespace internal
}  // namespace quire

/// Always on, in every build type. Usage: QUIRE_CHECK(a == b) << "a=" << a << " b=" << b;
#define QUIRE_CHECK(condition) \
  if (condition) [[likely]] {  \
  } else                       \
    ::quire::internal::CheckFailure(__FILE__, __LINE__, #condition)
