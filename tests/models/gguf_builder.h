#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/weights/gguf.h"

namespace quire::test {

/// Appends little-endian bytes, truthful or not.
class ByteWriter {
 public:
  ByteWriter& number(uint64_t value, int num_bytes);
  ByteWriter& text(std::string_view text);  // with its length
  ByteWriter& raw(std::string_view bytes);
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// A truthful GGUF file, piece by piece.
class GgufBuilder {
 public:
  explicit GgufBuilder(uint32_t version = 3) : version_(version) {}

  GgufBuilder& add_u32(std::string_view key, uint32_t value);
  GgufBuilder& add_f32(std::string_view key, float value);
  GgufBuilder& add_boolean(std::string_view key, bool value);
  GgufBuilder& add_text(std::string_view key, std::string_view value);
  GgufBuilder& add_texts(std::string_view key, const std::vector<std::string>& values);
  GgufBuilder& add_floats(std::string_view key, const std::vector<float>& values);
  GgufBuilder& add_integers(std::string_view key, const std::vector<int32_t>& values);
  GgufBuilder& add_bytes(std::string_view key, std::string_view values);  // an array of u8
  /// Any entry: `value` as it stands in the file.
  GgufBuilder& add_raw(std::string_view key, GgufValueType type, std::string_view value);

  /// `shape` with the fastest extent last.
  GgufBuilder& add_tensor(std::string_view name, GgufType type, const std::vector<int64_t>& shape,
                          std::string_view data);

  std::string bytes() const;

 private:
  uint32_t version_;
  uint64_t num_entries_ = 0;
  uint64_t num_tensors_ = 0;
  ByteWriter entries_;
  ByteWriter descriptions_;
  std::string data_;  // each tensor padded to 32 bytes
};

/// The bytes of f32 numbers.
std::string float_bytes(std::span<const float> values);

}  // namespace quire::test
