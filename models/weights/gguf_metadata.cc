#include "models/weights/gguf_metadata.h"

#include <bit>
#include <cmath>

#include "models/model_config.h"
#include "models/weights/little_endian.h"

namespace quire {
namespace {

std::string_view type_name(GgufValueType type) {
  static constexpr std::string_view kNames[] = {"u8",  "i8",  "u16",  "i16",    "u32",
                                                "i32", "f32", "bool", "string", "array",
                                                "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

bool is_integer(GgufValueType type) {
  switch (type) {
    case GgufValueType::kF32:
    case GgufValueType::kF64:
    case GgufValueType::kBool:
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return false;
    default:
      return true;
  }
}

/// Nullopt for a u64 beyond 63 bits. REQUIRES: an integer type.
std::optional<int64_t> integer_at(GgufValueType type, std::span<const std::byte> data) {
  const size_t size = gguf_value_bytes(type);
  const uint64_t bits = little_endian(data.first(size));
  if (type == GgufValueType::kU64 && bits > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  const bool is_signed =
      type == GgufValueType::kI8 || type == GgufValueType::kI16 || type == GgufValueType::kI32;
  const auto unused = static_cast<unsigned>(64 - 8 * size);
  return is_signed ? static_cast<int64_t>(bits << unused) >> unused : static_cast<int64_t>(bits);
}

float float_at(std::span<const std::byte> data) {
  return std::bit_cast<float>(static_cast<uint32_t>(little_endian(data.first(4))));
}

}  // namespace

size_t gguf_value_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

void GgufMetadata::fail(std::string_view key, const std::string& what) const {
  throw LoadError(source_name_ + ": metadata '" + std::string(key) + "': " + what);
}

void GgufMetadata::fail_type(std::string_view key, std::string_view expected,
                             const GgufValue& actual) const {
  std::string name(type_name(actual.type));
  if (actual.type == GgufValueType::kArray)
    name += " of " + std::string(type_name(actual.element_type));
  fail(key, "expected " + std::string(expected) + ", got " + name);
}

std::optional<int64_t> GgufMetadata::optional_integer(std::string_view key,
                                                      Range<int64_t> range) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!is_integer(value->type)) fail_type(key, "an integer", *value);
  const std::optional<int64_t> number = integer_at(value->type, value->data);
  if (!number || *number < range.min || *number > range.max) {
    fail(key, (number ? std::to_string(*number) : "a number beyond 63 bits") + " is not in [" +
                  std::to_string(range.min) + ", " + std::to_string(range.max) + "]");
  }
  return number;
}

int64_t GgufMetadata::integer(std::string_view key, Range<int64_t> range) const {
  const std::optional<int64_t> number = optional_integer(key, range);
  if (!number) fail(key, "missing");
  return *number;
}

std::optional<double> GgufMetadata::optional_number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  double number = 0;
  if (value->type == GgufValueType::kF32) {
    number = static_cast<double>(float_at(value->data));
  } else if (value->type == GgufValueType::kF64) {
    number = std::bit_cast<double>(little_endian(value->data));
  } else {
    fail_type(key, "f32 or f64", *value);
  }
  if (!std::isfinite(number)) fail(key, "is not finite");
  return number;
}

std::optional<bool> GgufMetadata::optional_boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufValueType::kBool) fail_type(key, "bool", *value);
  return value->data.front() != std::byte{0};
}

std::optional<std::string_view> GgufMetadata::optional_text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufValueType::kString) fail_type(key, "string", *value);
  return as_text(value->data);
}

std::string_view GgufMetadata::text(std::string_view key) const {
  const std::optional<std::string_view> found = optional_text(key);
  if (!found) fail(key, "missing");
  return *found;
}

const GgufValue* GgufMetadata::find_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value != nullptr && value->type != GgufValueType::kArray) fail_type(key, "array", *value);
  return value;
}

std::vector<std::string_view> GgufMetadata::texts(std::string_view key) const {
  std::vector<std::string_view> result;
  const GgufValue* value = find_array(key);
  if (value == nullptr) return result;
  if (value->element_type != GgufValueType::kString) fail_type(key, "array of string", *value);
  result.reserve(value->count);
  std::span<const std::byte> rest = value->data;
  for (uint64_t i = 0; i < value->count; ++i) {
    const uint64_t length = little_endian(rest.first(8));
    result.push_back(as_text(rest.subspan(8, length)));
    rest = rest.subspan(8 + length);
  }
  return result;
}

std::vector<int64_t> GgufMetadata::integers(std::string_view key) const {
  std::vector<int64_t> result;
  const GgufValue* value = find_array(key);
  if (value == nullptr) return result;
  if (!is_integer(value->element_type)) fail_type(key, "array of integers", *value);
  const size_t size = gguf_value_bytes(value->element_type);
  result.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = integer_at(value->element_type, value->data.subspan(i * size, size));
    if (!number) fail(key, "holds a number beyond 63 bits");
    result.push_back(*number);
  }
  return result;
}

std::vector<float> GgufMetadata::numbers(std::string_view key) const {
  std::vector<float> result;
  const GgufValue* value = find_array(key);
  if (value == nullptr) return result;
  if (value->element_type != GgufValueType::kF32) fail_type(key, "array of f32", *value);
  result.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    result.push_back(float_at(value->data.subspan(i * sizeof(float), sizeof(float))));
  }
  return result;
}

std::string_view GgufMetadata::bytes(std::string_view key) const {
  const GgufValue* value = find_array(key);
  if (value == nullptr) return {};
  if (value->element_type != GgufValueType::kU8 && value->element_type != GgufValueType::kI8) {
    fail_type(key, "array of u8", *value);
  }
  return as_text(value->data);
}

}  // namespace quire
