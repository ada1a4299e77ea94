#include "models/strict_json.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxQuotedChars = 120, kMaxErrorChars = 300;

std::string shorten(std::string text, size_t max_chars = kMaxQuotedChars) {
  if (text.size() > max_chars) text = text.substr(0, max_chars) + "…";
  return text;
}

/// Builds the document, and asks of it what nlohmann::json's own builder does not: limited nesting
/// and keys that stand once. The parser's own state is on the heap, so hostile nesting costs memory
/// rather than stack; the limit protects whoever walks the result. (A callback of nlohmann's
/// builder could do the same, but makes it look through an object again after each of its members.)
class StrictBuilder final : public nlohmann::json_sax<Json> {
 public:
  StrictBuilder(std::string_view source_name, int max_depth)
      : source_name_(source_name), max_depth_(max_depth) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t& value) override { return put(std::move(value)); }
  bool start_object(size_t) override { return open(Json::value_t::object); }
  bool start_array(size_t) override { return open(Json::value_t::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    const auto [member, is_new] = members.try_emplace(std::move(name));
    if (!is_new) {
      throw LoadError(source_name_ + ": key " + describe_json(member->first) + " stands twice");
    }
    member_ = &member->second;
    return true;
  }
  bool parse_error(size_t, const std::string&, const Json::exception& error) override {
    throw LoadError(source_name_ + ": " + shorten(error.what(), kMaxErrorChars));
  }

 private:
  bool put(Json value) {
    place(std::move(value));
    return true;
  }
  /// Where the value lies now; a list that holds it does not grow before it is complete.
  Json* place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_object()) return &(*member_ = std::move(value));
    return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
  }
  bool open(Json::value_t type) {
    if (static_cast<int>(open_.size()) >= max_depth_) {
      throw LoadError(source_name_ + ": JSON nested deeper than " + std::to_string(max_depth_));
    }
    open_.push_back(place(Json(type)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string source_name_;
  int max_depth_;
  Json root_;
  std::vector<Json*> open_;  // objects and lists, the innermost last
  Json* member_ = nullptr;   // of the innermost object: whose key was read last
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
  StrictBuilder builder(source_name, max_depth);
  Json::sax_parse(text, &builder);
  return builder.take();
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
    if (stands(key)) fail(key, "must not be null");
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
