#include "models/strict_json.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxQuotedChars = 120;

std::string shorten(std::string text) {
  if (text.size() > kMaxQuotedChars) text = text.substr(0, kMaxQuotedChars) + "…";
  return text;
}

/// What nlohmann::json's parser leaves to its callback. Its own state is on the heap, so hostile
/// nesting costs memory rather than stack; the limit protects whoever walks the result.
class StructureGuard {
 public:
  StructureGuard(std::string_view source_name, int max_depth)
      : source_name_(source_name), max_depth_(max_depth) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.emplace_back();
        [[fallthrough]];
      case Json::parse_event_t::array_start:
        if (depth >= max_depth_) {
          throw LoadError(source_name_ + ": JSON nested deeper than " + std::to_string(max_depth_));
        }
        break;
      case Json::parse_event_t::key:
        if (!keys_.back().insert(parsed.get_ref<const std::string&>()).second) {
          throw LoadError(source_name_ + ": key " + describe_json(parsed) + " stands twice");
        }
        break;
      case Json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      default:
        break;
    }
    return true;
  }

 private:
  std::string source_name_;
  int max_depth_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open, the innermost last
};

}  // namespace

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw LoadError(path.string() + ": no such file");
  }
  const uintmax_t size_bytes = std::filesystem::file_size(path, error);
  if (error) throw LoadError(path.string() + ": " + error.message());
  if (size_bytes > max_bytes) {
    throw LoadError(path.string() + ": " + std::to_string(size_bytes) + " bytes, at most " +
                    std::to_string(max_bytes) + " expected");
  }
  std::string text(static_cast<size_t>(size_bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file || static_cast<size_t>(file.gcount()) != text.size()) {
    throw LoadError(path.string() + ": cannot be read");
  }
  return text;
}

Json parse_json(std::string_view text, std::string_view source_name, int max_depth) {
  StructureGuard guard(source_name, max_depth);
  try {
    return Json::parse(text, [&guard](int depth, Json::parse_event_t event, Json& parsed) {
      return guard(depth, event, parsed);
    });
  } catch (const Json::exception& error) {
    throw LoadError(std::string(source_name) + ": " + shorten(error.what()));
  }
}

std::string describe_json(const Json& value) {
  return shorten(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

JsonFields::JsonFields(const Json& object, std::string_view source_name, std::string_view path)
    : object_(object), source_name_(source_name), path_(path) {
  if (!object.is_object()) {
    const std::string where = path.empty() ? "" : ": '" + path_.substr(0, path_.size() - 1) + "'";
    throw LoadError(source_name_ + where + ": expected a JSON object, got " +
                    describe_json(object));
  }
}

const Json* JsonFields::find(std::string_view key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::stands(std::string_view key) const { return object_.contains(key); }

const Json& JsonFields::require(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) {
    throw LoadError(source_name_ + ": missing key '" + path_ + std::string(key) + "'");
  }
  return *value;
}

int32_t JsonFields::checked_integer(std::string_view key, const Json& value, IntRange range) const {
  // An unsigned number above 2^63 - 1 would turn negative in get<int64_t>.
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() <= static_cast<uint64_t>(INT32_MAX)
                        : value.is_number_integer();
  if (fits) {
    const auto number = value.get<int64_t>();
    if (number >= range.min && number <= range.max) return static_cast<int32_t>(number);
  }
  fail(key, "expected an integer in [" + std::to_string(range.min) + ", " +
                std::to_string(range.max) + "], got " + describe_json(value));
}

int32_t JsonFields::integer(std::string_view key, IntRange range) const {
  return checked_integer(key, require(key), range);
}

std::optional<int32_t> JsonFields::optional_integer(std::string_view key, IntRange range) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return checked_integer(key, *value, range);
}

std::vector<int32_t> JsonFields::integers(std::string_view key, IntRange range) const {
  std::vector<int32_t> result;
  const Json* value = find(key);
  if (value == nullptr) return result;
  if (!value->is_array()) return {checked_integer(key, *value, range)};
  for (const Json& element : *value) result.push_back(checked_integer(key, element, range));
  return result;
}

double JsonFields::checked_number(std::string_view key, const Json& value,
                                  Range<double> range) const {
  if (value.is_number()) {
    const auto number = value.get<double>();
    if (number >= range.min && number <= range.max) return number;
  }
  std::ostringstream expected;
  expected << "expected a number in [" << range.min << ", " << range.max << "], got ";
  fail(key, expected.str() + describe_json(value));
}

std::optional<double> JsonFields::optional_number(std::string_view key, Range<double> range) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return checked_number(key, *value, range);
}

std::vector<double> JsonFields::numbers(std::string_view key, Range<double> range) const {
  const Json& list = require(key);
  if (!list.is_array()) fail(key, "expected a list of numbers, got " + describe_json(list));
  std::vector<double> result;
  for (const Json& element : list) result.push_back(checked_number(key, element, range));
  return result;
}

double JsonFields::number(std::string_view key, Range<double> range) const {
  require(key);
  return *optional_number(key, range);
}

std::optional<bool> JsonFields::optional_boolean(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(key, "expected true or false, got " + describe_json(*value));
  return value->get<bool>();
}

std::optional<std::string> JsonFields::optional_string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, "expected a string, got " + describe_json(*value));
  return value->get<std::string>();
}

void JsonFields::fail(std::string_view key, const std::string& what) const {
  throw LoadError(source_name_ + ": '" + path_ + std::string(key) + "': " + what);
}

void JsonFields::refuse_other_keys(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      fail(shorten(key), "unknown key");
    }
  }
}

}  // namespace quire
