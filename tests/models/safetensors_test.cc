#include "models/weights/safetensors.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <string>

#include "models/model_config.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

std::string error_of(const std::string& bytes) {
  return load_error_of([&] { parse_safetensors(std::as_bytes(std::span(bytes)), "w"); });
}

/// The complaint about a file with one tensor "t" of this description and `data_bytes` of data.
std::string error_of_entry(const std::string& entry, size_t data_bytes) {
  return error_of(safetensors_bytes("{\"t\": " + entry + "}", std::string(data_bytes, '\0')));
}

TEST_CASE("a truthful file gives names, dtypes, shapes and bytes") {
  const std::string bytes = safetensors_bytes(
      R"({"__metadata__": {"format": "pt"},
          "b": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
          "a": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]},
          "none": {"dtype": "U8", "shape": [0, 7], "data_offsets": [8, 8]}})",
      "abcdEFGH");
  const SafetensorsEntries entries = parse_safetensors(std::as_bytes(std::span(bytes)), "w");
  REQUIRE(entries.size() == 3);
  CHECK(entries.at("a").dtype == "BF16");
  CHECK(entries.at("a").shape == std::vector<int64_t>{2, 1});
  CHECK(static_cast<char>(entries.at("a").data[3]) == 'd');
  CHECK(entries.at("b").shape.empty());
  CHECK(static_cast<char>(entries.at("b").data.front()) == 'E');
  CHECK(entries.at("none").data.empty());
}

TEST_CASE("every truncation of a good file is refused") {
  const std::string bytes = safetensors_bytes(tiny_tensors());
  for (size_t size = 0; size < bytes.size(); size += size < 4096 ? 1 : 97) {
    CAPTURE(size);
    REQUIRE_THAT(error_of(bytes.substr(0, size)), Contains("w"));
  }
  CHECK(error_of(bytes) == "");
  CHECK_THAT(error_of(bytes + "x"), Contains("1 bytes after the last tensor"));
}

TEST_CASE("a header length that lies is refused") {
  const std::string good = safetensors_bytes("{}", "");
  CHECK(error_of(good) == "");
  CHECK_THAT(error_of("1234567"), Contains("7 bytes are too few"));
  for (const unsigned char last : {0x01, 0x7F, 0x80, 0xFF}) {
    std::string bytes = good;
    bytes[7] = static_cast<char>(last);
    CHECK_THAT(error_of(bytes), Contains("the header claims"));
  }
  std::string all_ones(16, '\xff');
  CHECK_THAT(error_of(all_ones), Contains("the header claims 18446744073709551615 bytes"));
}

TEST_CASE("offsets outside the file, reversed, negative or overflowing are refused") {
  const auto offsets =
      GENERATE(as<std::string>{}, "[0, 5]", "[4, 8]", "[4, 0]", "[-4, 0]",
               "[0, 18446744073709551615]", "[18446744073709551612, 0]",
               "[18446744073709551615, 18446744073709551615]", "[0, 99999999999999999999999]",
               "[0, 4.0]", "[0]", "[0, 4, 4]", "\"0\"", "null", "[[0], [4]]");
  CAPTURE(offsets);
  const std::string error =
      error_of_entry(R"({"dtype": "BF16", "shape": [2], "data_offsets": )" + offsets + "}", 4);
  CHECK_THAT(error, Contains("tensor \"t\": ") && Contains("data_offsets"));
}

TEST_CASE("dtype, shape and byte count must agree") {
  CHECK_THAT(error_of_entry(R"({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]})", 4),
             Contains("F32 [2] takes 8 bytes, data_offsets give 4"));
  CHECK_THAT(error_of_entry(R"({"dtype": "BF17", "shape": [2], "data_offsets": [0, 4]})", 4),
             Contains("unknown dtype \"BF17\""));
  CHECK_THAT(error_of_entry(R"({"dtype": 7, "shape": [2], "data_offsets": [0, 4]})", 4),
             Contains("dtype is 7"));
  CHECK_THAT(error_of_entry(R"({"shape": [2], "data_offsets": [0, 4]})", 4), Contains("no dtype"));
  CHECK_THAT(error_of_entry(R"({"dtype": "BF16", "data_offsets": [0, 4]})", 4),
             Contains("no shape"));
  CHECK_THAT(error_of_entry(R"({"dtype": "BF16", "shape": [2]})", 4), Contains("no data_offsets"));
  CHECK_THAT(error_of_entry(R"({"dtype": "BF16", "shape": [-2], "data_offsets": [0, 4]})", 4),
             Contains("shape is not a list of whole numbers"));
  CHECK_THAT(
      error_of_entry(R"({"dtype": "U8", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 1]})", 1),
      Contains("rank 9"));
}

TEST_CASE("a shape whose size overflows cannot wrap around to the right byte count") {
  // 2^63 * 2 elements of 2 bytes wrap to 0, 2^62 * 4 + … likewise.
  for (const std::string shape :
       {"[9223372036854775808, 2]", "[4611686018427387904, 4]", "[4294967296, 4294967296]",
        "[18446744073709551615]", "[9223372036854775807, 9223372036854775807, 2]"}) {
    CAPTURE(shape);
    CHECK_THAT(
        error_of_entry(R"({"dtype": "BF16", "data_offsets": [0, 0], "shape": )" + shape + "}", 0),
        Contains("overflows"));
  }
}

TEST_CASE("tensors that overlap or leave holes are refused") {
  const auto two = [](const std::string& first, const std::string& second, size_t data_bytes) {
    const std::string head = R"({"dtype": "U8", "shape": [4], "data_offsets": )";
    return error_of(
        safetensors_bytes("{\"a\": " + head + first + "}, \"b\": " + head + second + "}}",
                          std::string(data_bytes, 0)));
  };
  CHECK(two("[0, 4]", "[4, 8]", 8) == "");
  CHECK_THAT(two("[0, 4]", "[0, 4]", 4), Contains("overlaps"));
  CHECK_THAT(two("[0, 4]", "[3, 7]", 7), Contains("tensor \"b\": overlaps another tensor"));
  CHECK_THAT(two("[0, 4]", "[5, 9]", 9), Contains("bytes 4 to 5 before it belong to no tensor"));
}

TEST_CASE("a header that attacks the JSON parser is refused") {
  CHECK_THAT(error_of(safetensors_bytes("[]", "")), Contains("not a JSON object"));
  CHECK_THAT(error_of(safetensors_bytes("{", "")), Contains("w (header)"));
  CHECK_THAT(error_of(safetensors_bytes("", "")), Contains("w (header)"));
  CHECK_THAT(error_of(safetensors_bytes("{\"t\": 1}", "")), Contains("expected an object"));
  CHECK_THAT(error_of(safetensors_bytes(std::string(4'000'000, '['), "")),
             Contains("nested deeper than"));
  std::string objects;
  for (int i = 0; i < 500'000; ++i) objects += "{\"a\":";
  CHECK_THAT(error_of(safetensors_bytes(objects, "")), Contains("nested deeper than"));
  const std::string entry = R"("t": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})";
  CHECK_THAT(error_of(safetensors_bytes("{" + entry + ", " + entry + "}", "")),
             Contains("key \"t\" stands twice"));
  // As many tensors as fit: reading them takes time that grows with their number only.
  std::string many;
  for (int i = 0; i < 200'000; ++i) {
    many += (i == 0 ? "{\"" : ", \"") + std::to_string(i) + entry.substr(2);
  }
  CHECK(error_of(safetensors_bytes(many + "}", "")) == "");
}

TEST_CASE("what a file says stays on the line of the message") {
  CHECK_THAT(error_of(safetensors_bytes("{\"a\\n\\u001b[31m\": 1}", "")),
             !Contains("\n") && !Contains("\x1b") && Contains("u001b"));
  CHECK(std::string(LoadError("a\n\x1b[0m").what()) == "a\\x0a\\x1b[0m");
}

TEST_CASE("a path that is no regular file is refused by name") {
  const TemporaryFolder folder;
  CHECK_THAT(load_error_of([&] { SafetensorsFile(folder.path() / "absent.safetensors"); }),
             Contains("absent.safetensors: No such file"));
  CHECK_THAT(load_error_of([&] { SafetensorsFile(folder.path()); }),
             Contains("not a regular file"));
  const auto pipe = folder.path() / "pipe.safetensors";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THAT(load_error_of([&] { SafetensorsFile{pipe}; }), Contains("not a regular file"));
  folder.write("empty.safetensors", "");
  CHECK_THAT(load_error_of([&] { SafetensorsFile(folder.path() / "empty.safetensors"); }),
             Contains("the file is empty"));
}

}  // namespace
}  // namespace quire::test
