#include "models/weights/gguf.h"

#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "models/model_config.h"
#include "tests/models/gguf_builder.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

std::string error_of(const std::string& bytes) {
  return load_error_of([&] { parse_gguf(std::as_bytes(std::span(bytes)), "w"); });
}

/// The head of a file that claims these counts, with what follows.
std::string file_of(uint64_t num_tensors, uint64_t num_entries, const std::string& rest) {
  return ByteWriter()
      .raw("GGUF")
      .number(3, 4)
      .number(num_tensors, 8)
      .number(num_entries, 8)
      .raw(rest)
      .bytes();
}

/// The complaint about a file whose only entry "k" is of this type and has these bytes.
std::string error_of_value(uint32_t type, const ByteWriter& value) {
  return error_of(file_of(0, 1, ByteWriter().text("k").number(type, 4).raw(value.bytes()).bytes()));
}

/// One tensor's description.
struct Description {
  std::string name = "t";
  std::vector<uint64_t> extents = {2};  // as in the file, the fastest first
  uint32_t type = 0;
  uint64_t offset = 0;

  std::string bytes() const {
    ByteWriter writer;
    writer.text(name).number(extents.size(), 4);
    for (const uint64_t extent : extents) writer.number(extent, 8);
    return writer.number(type, 4).number(offset, 8).bytes();
  }
};

std::string error_of_tensors(const std::vector<Description>& tensors, size_t data_bytes) {
  std::string rest;
  for (const Description& tensor : tensors) rest += tensor.bytes();
  std::string bytes = file_of(tensors.size(), 0, rest);
  bytes.resize((bytes.size() + 31) / 32 * 32);
  return error_of(bytes + std::string(data_bytes, '\0'));
}

GgufBuilder truthful_file(uint32_t version) {
  GgufBuilder builder(version);
  builder.add_u32("a.count", 7)
      .add_f32("a.number", 0.5f)
      .add_boolean("a.flag", true)
      .add_text("a.text", "höhe")
      .add_texts("a.words", {"x", "", "yz"})
      .add_integers("a.ids", {-1, 2})
      .add_floats("a.scores", {1.0f, -2.0f})
      .add_raw("a.nested", GgufValueType::kArray,
               ByteWriter().number(9, 4).number(1, 8).number(8, 4).number(1, 8).text("w").bytes());
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  builder.add_tensor("m", GgufType::kF32, {2, 3}, float_bytes(values));
  builder.add_tensor("q", GgufType::kQ8_0, {64}, std::string(68, 'q'));
  builder.add_tensor("h", GgufType::kBF16, {1}, "ab");
  return builder;
}

TEST_CASE("a truthful file of version 2 or 3 gives its metadata and tensors") {
  const std::string bytes = truthful_file(GENERATE(2u, 3u)).bytes();
  const GgufContents contents = parse_gguf(std::as_bytes(std::span(bytes)), "w");
  const GgufMetadata& metadata = contents.metadata;
  CHECK(metadata.integer("a.count", {0, 10}) == 7);
  CHECK(metadata.optional_number("a.number") == 0.5);
  CHECK(metadata.optional_boolean("a.flag") == true);
  CHECK(metadata.text("a.text") == "höhe");
  CHECK(metadata.texts("a.words") == std::vector<std::string_view>{"x", "", "yz"});
  CHECK(metadata.integers("a.ids") == std::vector<int64_t>{-1, 2});
  CHECK(metadata.numbers("a.scores") == std::vector<float>{1.0f, -2.0f});
  CHECK_FALSE(metadata.optional_integer("absent", {0, 1}));
  CHECK(metadata.texts("absent").empty());

  REQUIRE(contents.tensors.size() == 3);
  const GgufTensor& matrix = contents.tensors.at("m");
  CHECK(matrix.type == GgufType::kF32);
  CHECK(matrix.shape == std::vector<int64_t>{2, 3});
  CHECK(matrix.data.size() == 24);
  CHECK(contents.tensors.at("q").data.size() == 68);
  CHECK(static_cast<char>(contents.tensors.at("h").data[1]) == 'b');
}

TEST_CASE("every truncation of a good GGUF file is refused") {
  const std::string bytes = truthful_file(3).bytes();
  const size_t end = bytes.size() - 30;  // the last tensor is two bytes, the rest is padding
  for (size_t size = 0; size < end; ++size) {
    CAPTURE(size);
    REQUIRE_THAT(error_of(bytes.substr(0, size)), Contains("w: "));
  }
  CHECK(error_of(bytes.substr(0, end)) == "");
  CHECK(error_of(bytes) == "");
}

TEST_CASE("another magic number, version or byte order is refused") {
  CHECK_THAT(error_of("GGML" + std::string(20, '\0')), Contains("not a GGUF file"));
  for (const uint32_t version : {0u, 1u, 4u, UINT32_MAX}) {
    CHECK_THAT(error_of(GgufBuilder(version).bytes()),
               Contains("version " + std::to_string(version) + " is not supported (2 or 3)"));
  }
  CHECK_THAT(error_of(GgufBuilder(3u << 24).bytes()), Contains("looks big-endian"));
}

TEST_CASE("counts and lengths that the file has no bytes for allocate nothing") {
  for (const uint64_t count : {uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 63, UINT64_MAX}) {
    CAPTURE(count);
    CHECK_THAT(error_of(file_of(0, count, "")), Contains("metadata entries, but only 0 bytes"));
    CHECK_THAT(error_of(file_of(count, 0, "")), Contains("tensors, but only 0 bytes"));
    if (count == 1) continue;
    CHECK_THAT(error_of_value(8, ByteWriter().number(count, 8)), Contains("ends inside of"));
    for (const uint32_t type : {0u, 4u, 12u, 8u, 9u}) {
      CAPTURE(type);
      CHECK_THAT(error_of_value(9, ByteWriter().number(type, 4).number(count, 8)),
                 Contains("metadata \"k\", but only 0 bytes are left"));
    }
  }
  CHECK_THAT(
      error_of(file_of(0, 1, ByteWriter().number(65536, 8).raw(std::string(65536, 'k')).bytes())),
      Contains("a metadata key of 65536 bytes (at most 65535)"));
  CHECK_THAT(error_of_tensors({{.name = std::string(65, 'n')}}, 8),
             Contains("a tensor's name of 65 bytes (at most 64)"));
}

TEST_CASE("values of unknown types, deep arrays and false bools are refused") {
  CHECK_THAT(error_of_value(13, ByteWriter().number(0, 8)),
             Contains("metadata \"k\": unknown type 13"));
  CHECK_THAT(error_of_value(9, ByteWriter().number(13, 4).number(0, 8)),
             Contains("unknown type 13"));
  CHECK_THAT(error_of_value(7, ByteWriter().number(2, 1)), Contains("a bool of 2"));
  CHECK_THAT(error_of_value(9, ByteWriter().number(7, 4).number(2, 8).raw("\1\3")),
             Contains("a bool of 3"));
  const auto nested = [](int depth) {
    ByteWriter writer;
    for (int i = 1; i < depth; ++i) writer.number(9, 4).number(1, 8);
    return writer.number(0, 4).number(1, 8).raw("x");
  };
  CHECK(error_of_value(9, nested(4)) == "");
  CHECK_THAT(error_of_value(9, nested(5)), Contains("nested deeper than 4"));
  CHECK_THAT(error_of_value(9, nested(200'000)), Contains("nested deeper than 4"));
}

TEST_CASE("keys and tensors that stand twice are refused") {
  CHECK_THAT(error_of(GgufBuilder().add_u32("k", 1).add_f32("k", 1).bytes()),
             Contains("metadata \"k\" stands twice"));
  CHECK_THAT(error_of_tensors({{.offset = 0}, {.offset = 32}}, 64),
             Contains("tensor \"t\": stands twice"));
}

TEST_CASE("a tensor's type, rank and extents are checked") {
  CHECK_THAT(error_of_tensors({{.type = 10}}, 64),
             Contains("tensor \"t\": type 10 is not supported (F32, F16, BF16, Q8_0"));
  CHECK_THAT(error_of_tensors({{.extents = {}}}, 64), Contains("rank 0 (1 to 4)"));
  CHECK_THAT(error_of_tensors({{.extents = {1, 1, 1, 1, 1}}}, 64), Contains("rank 5 (1 to 4)"));
  CHECK_THAT(error_of_tensors({{.extents = {2, 0}}}, 64), Contains("an extent of 0"));
  CHECK_THAT(error_of_tensors({{.extents = {uint64_t{1} << 63}}}, 64),
             Contains("an extent of 9223"));
  CHECK_THAT(error_of_tensors({{.extents = {31, 2}, .type = 8}}, 68),
             Contains("rows of 31 in Q8_0 blocks of 32"));
}

TEST_CASE("a GGUF shape whose size overflows cannot wrap around to the right byte count") {
  for (const std::vector<uint64_t>& extents : {std::vector<uint64_t>{uint64_t{1} << 62, 4},
                                               {uint64_t{1} << 32, uint64_t{1} << 32},
                                               {INT64_MAX, INT64_MAX, 2, 1}}) {
    CHECK_THAT(error_of_tensors({{.extents = extents}}, 64), Contains("overflows"));
  }
}

TEST_CASE("tensors that overlap, leave holes or the file are refused") {
  const auto two = [](uint64_t first, uint64_t second, size_t data_bytes) {
    return error_of_tensors({{.name = "a", .extents = {8}, .offset = first},
                             {.name = "b", .extents = {8}, .offset = second}},
                            data_bytes);
  };
  CHECK(two(0, 32, 64) == "");
  CHECK(two(32, 0, 64) == "");  // in any order
  CHECK_THAT(two(0, 0, 64), Contains("overlaps another tensor"));
  CHECK_THAT(two(0, 31, 64), Contains("tensor \"b\": overlaps another tensor"));
  CHECK_THAT(two(0, 64, 96), Contains("tensor \"b\": is at 64, expected 32"));
  CHECK_THAT(two(32, 64, 96), Contains("tensor \"a\": is at 32, expected 0"));
  CHECK_THAT(two(0, 33, 96), Contains("tensor \"b\": is at 33, expected 32"));
  CHECK_THAT(two(0, 32, 63), Contains("tensor \"b\": 32 bytes at 32 of the file's 63 data bytes"));
  CHECK_THAT(two(0, UINT64_MAX - 31, 64), Contains("tensor \"b\": is at 18446744073709551584"));
}

TEST_CASE("the alignment is the file's, within reason") {
  const auto file = [](uint32_t alignment) {
    return error_of(GgufBuilder()
                        .add_u32("general.alignment", alignment)
                        .add_tensor("t", GgufType::kF32, {1}, "abcd")
                        .bytes());
  };
  CHECK(file(32) == "");
  CHECK(file(8) == "");
  for (const uint32_t alignment : {0u, 1u << 17, UINT32_MAX}) {
    CHECK_THAT(file(alignment), Contains("general.alignment") && Contains("is not in [1, 65536]"));
  }
  CHECK_THAT(file(24), Contains("24 is no power of two"));
  CHECK_THAT(error_of(GgufBuilder().add_text("general.alignment", "32").bytes()),
             Contains("metadata 'general.alignment': expected an integer, got string"));
}

TEST_CASE("metadata of another type than wanted is refused by key, with both types") {
  const std::string bytes = truthful_file(3)
                                .add_raw("huge", GgufValueType::kU64, std::string(8, '\xff'))
                                .add_raw("negative", GgufValueType::kI8, "\xff")
                                .add_f32("nan", NAN)
                                .bytes();
  const GgufContents contents = parse_gguf(std::as_bytes(std::span(bytes)), "w");
  const GgufMetadata& metadata = contents.metadata;
  const auto error = [&](const std::function<void()>& read) { return load_error_of(read); };
  CHECK_THAT(error([&] { metadata.integer("absent", {0, 1}); }), Contains("'absent': missing"));
  CHECK_THAT(error([&] { metadata.text("absent"); }), Contains("'absent': missing"));
  CHECK_THAT(error([&] { metadata.integer("a.count", {0, 6}); }), Contains("7 is not in [0, 6]"));
  CHECK_THAT(error([&] { metadata.integer("negative", {0, 6}); }), Contains("-1 is not in [0, 6]"));
  CHECK_THAT(error([&] { metadata.integer("huge", {0, INT64_MAX}); }), Contains("beyond 63 bits"));
  CHECK_THAT(error([&] {
               metadata.integer("a.flag", {0, 6});
             }),
             Contains("expected an integer, got bool"));
  CHECK_THAT(error([&] { metadata.optional_number("a.count"); }),
             Contains("expected f32 or f64, got u32"));
  CHECK_THAT(error([&] { metadata.optional_number("nan"); }), Contains("is not finite"));
  CHECK_THAT(error([&] { metadata.text("a.words"); }),
             Contains("expected string, got array of string"));
  CHECK_THAT(error([&] { metadata.texts("a.ids"); }),
             Contains("expected array of string, got array of i32"));
  CHECK_THAT(error([&] { metadata.texts("a.nested"); }), Contains("got array of array"));
  CHECK_THAT(error([&] { metadata.integers("a.scores"); }), Contains("expected array of integers"));
  CHECK_THAT(error([&] { metadata.numbers("a.count"); }), Contains("expected array, got u32"));
}

TEST_CASE("one part of a GGUF model that was split is refused by name") {
  const TemporaryFolder folder;
  folder.write("part.gguf", GgufBuilder().add_u32("split.count", 2).bytes());
  CHECK_THAT(load_error_of([&] { GgufFile(folder.path() / "part.gguf"); }),
             Contains("part.gguf") && Contains("one of 2 parts"));
  folder.write("whole.gguf", truthful_file(3).bytes());
  const GgufFile file(folder.path() / "whole.gguf");
  CHECK(file.find("m") != nullptr);
  CHECK(file.find("n") == nullptr);
}

}  // namespace
}  // namespace quire::test
