#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// The number that stands for a type of value in a GGUF file.
enum class GgufValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// Bytes of a number or bool; 0 of strings and arrays, whose length stands in the file.
size_t gguf_value_bytes(GgufValueType type);

/// A value where it lies in the file. The reader has walked it: lengths are true, strings and
/// elements lie inside `data`.
struct GgufValue {
  GgufValueType type = GgufValueType::kU8;          // kArray: of elements of `element_type`
  GgufValueType element_type = GgufValueType::kU8;  // `type` itself unless that is kArray
  uint64_t count = 1;                               // elements
  std::span<const std::byte> data;  // a number; a string without its length; an array's elements
};

/// The metadata of a GGUF file, read with types. Whatever does not fit is a LoadError that names
/// the file, the key, what was expected and what stands there. Points into the file. Immutable,
/// any thread.
class GgufMetadata {
 public:
  template <class T>
  struct Range {
    T min;
    T max;
  };

  explicit GgufMetadata(std::string_view source_name) : source_name_(source_name) {}

  /// False if the key is there already.
  bool add(std::string_view key, const GgufValue& value) {
    return values_.emplace(key, value).second;
  }

  /// Null if absent.
  const GgufValue* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }

  /// Of any integer type.
  std::optional<int64_t> optional_integer(std::string_view key, Range<int64_t> range) const;
  int64_t integer(std::string_view key, Range<int64_t> range) const;
  /// Of either floating-point type; finite.
  std::optional<double> optional_number(std::string_view key) const;
  std::optional<bool> optional_boolean(std::string_view key) const;
  std::optional<std::string_view> optional_text(std::string_view key) const;
  std::string_view text(std::string_view key) const;

  /// Arrays; empty if absent. Integers of any type that fit into 64 bits with a sign; numbers f32.
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key) const;
  /// An array of u8 or i8 as it stands; empty if absent.
  std::string_view bytes(std::string_view key) const;

  /// Throws LoadError "<source>: metadata '<key>': <what>".
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;
  const std::string& source_name() const { return source_name_; }

 private:
  const GgufValue* find_array(std::string_view key) const;
  [[noreturn]] void fail_type(std::string_view key, std::string_view expected,
                              const GgufValue& actual) const;

  std::string source_name_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

}  // namespace quire
