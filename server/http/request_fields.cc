#include "server/http/request_fields.h"

#include <cmath>
#include <utility>

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr double kLargestExactInteger = 9007199254740992.0;  // 2^53

}  // namespace

std::optional<int64_t> integer_value(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (!(std::abs(number) <= kLargestExactInteger) || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<int64_t>(number);
}

RequestFields::RequestFields(Json& object, std::string path, Status& status)
    : object_(&object), path_(std::move(path)), status_(&status) {
  if (object.is_object()) return;
  object_ = nullptr;
  std::string name = path_;
  if (name.ends_with('.')) name.pop_back();
  if (status_->ok()) *status_ = invalid_argument(name + " must be an object", name);
}

Json* RequestFields::find(const char* key) const {
  if (object_ == nullptr) return nullptr;
  const auto field = object_->find(key);
  return field == object_->end() || field->is_null() ? nullptr : &*field;
}

std::optional<bool> RequestFields::boolean(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  fail(key, "must be true or false");
  return std::nullopt;
}

std::optional<int64_t> RequestFields::integer(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = integer_value(*value);
  if (!number) fail(key, "must be an integer of at most 64 bits");
  return number;
}

std::optional<double> RequestFields::number(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->get<double>();
  fail(key, "must be a number");
  return std::nullopt;
}

std::optional<std::string> RequestFields::text(const char* key) const {
  Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::move(value->get_ref<std::string&>());
  fail(key, "must be a string");
  return std::nullopt;
}

std::optional<std::vector<int64_t>> RequestFields::integers(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<int64_t> numbers;
  if (value->is_array()) {
    numbers.reserve(value->size());
    for (const Json& element : *value) {
      const std::optional<int64_t> number = integer_value(element);
      if (!number) break;
      numbers.push_back(*number);
    }
    if (numbers.size() == value->size()) return numbers;
  }
  fail(key, "must be a list of integers");
  return std::nullopt;
}

void RequestFields::fail(const char* key, const std::string& message) const {
  if (status_->ok()) *status_ = invalid_argument(path_of(key) + " " + message, path_of(key));
}

}  // namespace quire
