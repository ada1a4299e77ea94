#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/status.h"

// A request's body is input from a stranger: bounded in nesting and in the number of values before
// any of it is built, then read field by field.

namespace quire {

struct JsonLimits {
  int max_depth = 64;
  int64_t max_values = 1 << 24;  // a value costs tens of bytes, "[]," only three on the wire
};

/// One JSON object. kInvalidArgument for anything else, for text after it, for what is no UTF-8 and
/// for what passes the limits.
Result<nlohmann::json> parse_json_object(std::string_view text, const JsonLimits& limits);

/// Typed reads of one JSON object. The first complaint sticks in `status` (kInvalidArgument, the
/// field's path as param); what fails reads as absent. A field that is null counts as absent.
class RequestFields {
 public:
  /// `object` and `status` must outlive the reader. A value that is no object is a complaint.
  RequestFields(nlohmann::json& object, std::string path, Status& status);

  /// Null unless present and not null.
  nlohmann::json* find(const char* key) const;

  std::optional<bool> boolean(const char* key) const;
  std::optional<int64_t> integer(const char* key) const;
  std::optional<double> number(const char* key) const;
  /// Moved out of the object.
  std::optional<std::string> text(const char* key) const;
  std::optional<std::vector<int64_t>> integers(const char* key) const;

  std::string path_of(const char* key) const { return path_ + key; }
  void fail(const char* key, const std::string& message) const;

 private:
  nlohmann::json* object_;  // null after a complaint in the constructor
  std::string path_;        // "attention."
  Status* status_;
};

/// A whole number that fits, also when written 3.0.
std::optional<int64_t> integer_value(const nlohmann::json& value);

}  // namespace quire
