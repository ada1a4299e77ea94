#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/model_config.h"

// JSON from a model folder is input from a stranger. It is read here and nowhere else in models/:
// bounded in size and in nesting, no key twice, every number inside stated bounds, every complaint
// a LoadError that names the file and the key.

namespace quire {

/// The whole file. Throws LoadError if it is not a readable regular file of at most `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

/// Throws LoadError, beginning with `source_name`, for malformed JSON, nesting deeper than
/// `max_depth` and for a key that stands twice in one object.
nlohmann::json parse_json(std::string_view text, std::string_view source_name, int max_depth);

/// `value` as JSON text, cut to a length that fits into an error line.
std::string describe_json(const nlohmann::json& value);

/// Typed access to one JSON object. An optional field that is null counts as absent.
class JsonFields {
 public:
  /// `path` stands before the keys in messages ("moba."). `object` must outlive this. Throws
  /// LoadError unless it is an object.
  JsonFields(const nlohmann::json& object, std::string_view source_name,
             std::string_view path = "");

  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// Whether the key is there, be it with null.
  bool stands(std::string_view key) const;
  /// Null unless present and not null.
  const nlohmann::json* find(std::string_view key) const;

  template <class T>
  struct Range {
    T min;
    T max;
  };
  using IntRange = Range<int32_t>;

  int32_t integer(std::string_view key, IntRange range) const;
  std::optional<int32_t> optional_integer(std::string_view key, IntRange range) const;
  /// An integer or a list of integers; empty if absent.
  std::vector<int32_t> integers(std::string_view key, IntRange range) const;
  double number(std::string_view key, Range<double> range) const;
  /// A list of numbers; it must be there.
  std::vector<double> numbers(std::string_view key, Range<double> range) const;
  std::optional<double> optional_number(std::string_view key, Range<double> range) const;
  std::optional<bool> optional_boolean(std::string_view key) const;
  std::optional<std::string> optional_string(std::string_view key) const;

  /// Throws LoadError "<source>: '<path><key>': <what>".
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;
  /// Throws LoadError unless every key of the object is in `known`.
  void refuse_other_keys(std::initializer_list<std::string_view> known) const;

 private:
  const nlohmann::json& require(std::string_view key) const;
  int32_t checked_integer(std::string_view key, const nlohmann::json& value, IntRange range) const;
  double checked_number(std::string_view key, const nlohmann::json& value,
                        Range<double> range) const;

  const nlohmann::json& object_;
  std::string source_name_;
  std::string path_;
};

}  // namespace quire
