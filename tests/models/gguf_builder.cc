#include "tests/models/gguf_builder.h"

#include <bit>

namespace quire::test {
namespace {

constexpr size_t kAlignment = 32;

void pad(std::string& bytes) {
  bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

ByteWriter& ByteWriter::number(uint64_t value, int num_bytes) {
  for (int i = 0; i < num_bytes; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
  return *this;
}

ByteWriter& ByteWriter::text(std::string_view text) { return number(text.size(), 8).raw(text); }

ByteWriter& ByteWriter::raw(std::string_view bytes) {
  bytes_.append(bytes);
  return *this;
}

GgufBuilder& GgufBuilder::add_raw(std::string_view key, GgufValueType type,
                                  std::string_view value) {
  entries_.text(key).number(static_cast<uint32_t>(type), 4).raw(value);
  ++num_entries_;
  return *this;
}

GgufBuilder& GgufBuilder::add_u32(std::string_view key, uint32_t value) {
  return add_raw(key, GgufValueType::kU32, ByteWriter().number(value, 4).bytes());
}

GgufBuilder& GgufBuilder::add_f32(std::string_view key, float value) {
  return add_raw(key, GgufValueType::kF32, float_bytes({&value, 1}));
}

GgufBuilder& GgufBuilder::add_boolean(std::string_view key, bool value) {
  return add_raw(key, GgufValueType::kBool, std::string(1, value ? '\1' : '\0'));
}

GgufBuilder& GgufBuilder::add_text(std::string_view key, std::string_view value) {
  return add_raw(key, GgufValueType::kString, ByteWriter().text(value).bytes());
}

GgufBuilder& GgufBuilder::add_texts(std::string_view key, const std::vector<std::string>& values) {
  ByteWriter array;
  array.number(static_cast<uint32_t>(GgufValueType::kString), 4).number(values.size(), 8);
  for (const std::string& value : values) array.text(value);
  return add_raw(key, GgufValueType::kArray, array.bytes());
}

GgufBuilder& GgufBuilder::add_floats(std::string_view key, const std::vector<float>& values) {
  ByteWriter array;
  array.number(static_cast<uint32_t>(GgufValueType::kF32), 4).number(values.size(), 8);
  return add_raw(key, GgufValueType::kArray, array.raw(float_bytes(values)).bytes());
}

GgufBuilder& GgufBuilder::add_integers(std::string_view key, const std::vector<int32_t>& values) {
  ByteWriter array;
  array.number(static_cast<uint32_t>(GgufValueType::kI32), 4).number(values.size(), 8);
  for (const int32_t value : values) array.number(static_cast<uint32_t>(value), 4);
  return add_raw(key, GgufValueType::kArray, array.bytes());
}

GgufBuilder& GgufBuilder::add_bytes(std::string_view key, std::string_view values) {
  ByteWriter array;
  array.number(static_cast<uint32_t>(GgufValueType::kU8), 4).number(values.size(), 8).raw(values);
  return add_raw(key, GgufValueType::kArray, array.bytes());
}

GgufBuilder& GgufBuilder::add_tensor(std::string_view name, GgufType type,
                                     const std::vector<int64_t>& shape, std::string_view data) {
  descriptions_.text(name).number(shape.size(), 4);
  for (size_t axis = shape.size(); axis-- > 0;) {
    descriptions_.number(static_cast<uint64_t>(shape[axis]), 8);
  }
  descriptions_.number(static_cast<uint32_t>(type), 4).number(data_.size(), 8);
  data_.append(data);
  pad(data_);
  ++num_tensors_;
  return *this;
}

std::string GgufBuilder::bytes() const {
  ByteWriter head;
  head.raw("GGUF").number(version_, 4).number(num_tensors_, 8).number(num_entries_, 8);
  std::string bytes = head.raw(entries_.bytes()).raw(descriptions_.bytes()).bytes();
  pad(bytes);
  return bytes + data_;
}

std::string float_bytes(std::span<const float> values) {
  ByteWriter writer;
  for (const float value : values) writer.number(std::bit_cast<uint32_t>(value), 4);
  return writer.bytes();
}

}  // namespace quire::test
