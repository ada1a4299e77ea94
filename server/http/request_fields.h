#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/status.h"

namespace quire {

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
