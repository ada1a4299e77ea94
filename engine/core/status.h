#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "kernels/check.h"

namespace quire {

/// Canonical codes; the values are gRPC's.
enum class StatusCode : uint8_t {
  kOk = 0,
  kCancelled = 1,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

/// The outcome of something a user asked for. `param` names the request field at fault (may be
/// empty), `detail` the OpenAI error code ("context_length_exceeded"; may be empty).
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message, std::string param = {}, std::string detail = {})
      : code_(code),
        message_(std::move(message)),
        param_(std::move(param)),
        detail_(std::move(detail)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& param() const { return param_; }
  const std::string& detail() const { return detail_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
  std::string param_;
  std::string detail_;
};

inline Status invalid_argument(std::string message, std::string param = {},
                               std::string detail = {}) {
  return Status(StatusCode::kInvalidArgument, std::move(message), std::move(param),
                std::move(detail));
}

/// A value or the Status that says why there is none. (std::expected is C++23.)
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status error) : state_(std::in_place_index<1>, std::move(error)) {
    QUIRE_CHECK(!std::get<1>(state_).ok()) << "a Result without a value needs an error";
  }

  bool ok() const { return state_.index() == 0; }
  const Status& status() const {
    static const Status kOk;
    return ok() ? kOk : std::get<1>(state_);
  }
  /// REQUIRES: ok().
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &value(); }
  T& operator*() & { return value(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace quire
