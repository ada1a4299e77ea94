#include "models/weights/weight_store.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "models/model_config.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

const std::string kOneTensor =
    safetensors_bytes({{"t", {2, 3}, std::vector<BFloat16>(6, to_bfloat16(1.5f))}});

std::string get_error(const TemporaryFolder& folder, std::string_view name, DType dtype,
                      std::initializer_list<int64_t> shape) {
  return load_error_of([&] { WeightStore(folder.path()).get(name, dtype, shape); });
}

TEST_CASE("a tensor comes as a view of its numbers") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", kOneTensor);
  WeightStore store(folder.path());
  CHECK(store.contains("t"));
  CHECK_FALSE(store.contains("u"));
  const ConstTensorView view = store.get("t", DType::kBF16, {2, 3});
  CHECK(view.is_contiguous());
  CHECK(to_float(view.data_as<BFloat16>()[5]) == 1.5f);
}

TEST_CASE("a tensor behind a header of odd length is readable all the same") {
  const TemporaryFolder folder;
  folder.write(
      "model.safetensors",
      safetensors_bytes(R"({"t": {"dtype": "BF16", "shape": [1], "data_offsets": [0,2]} })",
                        std::string_view("\xc0\x3f", 2)));
  WeightStore store(folder.path());
  const ConstTensorView view = store.get("t", DType::kBF16, {1});
  CHECK(reinterpret_cast<uintptr_t>(view.data) % alignof(BFloat16) == 0);
  CHECK(to_float(view.data_as<BFloat16>()[0]) == 1.5f);
}

TEST_CASE("a missing tensor and a wrong shape or dtype are named with file and expectation") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", kOneTensor);
  CHECK_THAT(get_error(folder, "absent", DType::kBF16, {2, 3}),
             Contains("missing tensor 'absent', expected BF16 [2, 3]"));
  CHECK_THAT(get_error(folder, "t", DType::kBF16, {3, 2}),
             Contains("model.safetensors: tensor 't': expected BF16 [3, 2], actual BF16 [2, 3]"));
  CHECK_THAT(get_error(folder, "t", DType::kBF16, {6}), Contains("expected BF16 [6]"));
  CHECK_THAT(get_error(folder, "t", DType::kI32, {2, 3}), Contains("expected I32 [2, 3]"));

  for (const std::string dtype : {"F8_E4M3", "I8", "U8"}) {
    folder.write(
        "model.safetensors",
        safetensors_bytes(
            R"({"t": {"dtype": ")" + dtype + R"(", "shape": [1], "data_offsets": [0, 1]}})", "x"));
    CHECK_THAT(get_error(folder, "t", DType::kBF16, {1}),
               Contains("expected BF16 [1], actual " + dtype + " [1]"));
  }
}

/// A folder whose tensor "t" has these elements as its bytes.
template <class Element>
void write_elements(const TemporaryFolder& folder, const std::string& dtype,
                    const std::vector<Element>& elements) {
  const size_t num_bytes = elements.size() * sizeof(Element);
  const std::string header = R"({"t": {"dtype": ")" + dtype + R"(", "shape": [)" +
                             std::to_string(elements.size()) + R"(], "data_offsets": [0, )" +
                             std::to_string(num_bytes) + "]}}";
  folder.write(
      "model.safetensors",
      safetensors_bytes(header, {reinterpret_cast<const char*>(elements.data()), num_bytes}));
}

std::vector<float> rounded(WeightStore& store, int64_t count) {
  const ConstTensorView view = store.get("t", DType::kBF16, {count});
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(to_float(view.data_as<BFloat16>()[i]));
  return values;
}

TEST_CASE("float32 is rounded to the nearest bf16, ties to even") {
  const TemporaryFolder folder;
  const float infinity = std::numeric_limits<float>::infinity();
  write_elements<float>(folder, "F32",
                        {1.5f, -0.0f, 1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1.0002p-8f, 1 - 0x1p-24f,
                         -(1 + 0x1p-9f), 3.4e38f, -infinity, 0x1p-140f});
  WeightStore store(folder.path());
  CHECK(store.rounded_dtypes() == "");
  CHECK(rounded(store, 10) ==
        std::vector<float>{1.5f, 0, 1, 1 + 0x1p-6f, 1 + 0x1p-7f, 1, -1, infinity, -infinity, 0});
  CHECK(store.rounded_dtypes() == "F32");
  write_elements<float>(folder, "F32", {std::numeric_limits<float>::quiet_NaN()});
  WeightStore other(folder.path());
  CHECK(std::isnan(rounded(other, 1)[0]));
}

TEST_CASE("float16 is rounded to the nearest bf16, subnormal and infinite ones too") {
  const TemporaryFolder folder;
  // 1.5, -2, the least subnormal, the largest subnormal, the largest number, -inf, 1 + 2^-10.
  write_elements<uint16_t>(folder, "F16",
                           {0x3E00, 0xC000, 0x0001, 0x03FF, 0x7BFF, 0xFC00, 0x3C01, 0x8000});
  WeightStore store(folder.path());
  CHECK(rounded(store, 8) == std::vector<float>{1.5f, -2, 0x1p-24f, 0x1p-14f, 65536.0f,
                                                -std::numeric_limits<float>::infinity(), 1, 0});
  CHECK(store.rounded_dtypes() == "F16");
}

TEST_CASE("every float16 has the value that its bits say, within a bf16 rounding") {
  std::vector<uint16_t> all;
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) all.push_back(static_cast<uint16_t>(bits));
  const TemporaryFolder folder;
  write_elements<uint16_t>(folder, "F16", all);
  WeightStore store(folder.path());
  const std::vector<float> values = rounded(store, static_cast<int64_t>(all.size()));
  for (size_t bits = 0; bits < all.size(); ++bits) {
    const int exponent = static_cast<int>(bits >> 10);
    const auto fraction = static_cast<double>(bits & 0x3FF);
    const double exact =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (values[bits] != round_to_bfloat16(static_cast<float>(exact))) {
      FAIL("float16 bits " << bits << ": " << values[bits] << ", expected about " << exact);
    }
  }
}

TEST_CASE("bf16, float16 and float32 become float32 without a rounding") {
  const std::vector<float> numbers{1.5f, -0.0f, 0x1p-14f, -65280.0f};
  const auto stored_as = [&](const std::string& dtype, const auto& stored) {
    const TemporaryFolder folder;
    write_elements(folder, dtype, stored);
    WeightStore store(folder.path());
    const float* values = store.get("t", DType::kF32, {4}).data_as<float>();
    CHECK(store.rounded_dtypes() == "");
    return std::vector<float>(values, values + 4);
  };
  CHECK(stored_as("BF16", std::vector<uint16_t>{0x3FC0, 0x8000, 0x3880, 0xC77F}) == numbers);
  CHECK(stored_as("F16", std::vector<uint16_t>{0x3E00, 0x8000, 0x0400, 0xFBF8}) == numbers);
  const std::vector<float> fine{1 + 0x1p-23f, -0.0f, 0x1p-149f, 3.4e38f};
  CHECK(stored_as("F32", fine) == fine);
}

TEST_CASE("a released tensor can be asked for again, the others stay when loading ends") {
  const TemporaryFolder folder;
  folder.write("a.safetensors", kOneTensor);
  folder.write("b.safetensors",
               safetensors_bytes({{"u", {2}, {to_bfloat16(-2.0f), to_bfloat16(3.0f)}}}, "F32"));
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"t": "a.safetensors", "u": "b.safetensors"}})");
  WeightStore store(folder.path());
  CHECK(store.stored_bytes() == 6 * 2 + 2 * 4);
  store.release(store.get("t", DType::kBF16, {2, 3}));
  store.release(store.get("u", DType::kBF16, {2}));
  const ConstTensorView mapped = store.get("t", DType::kBF16, {2, 3});
  const ConstTensorView copied = store.get("u", DType::kBF16, {2});
  CHECK_THROWS_AS(store.release(make_view(static_cast<const BFloat16*>(nullptr), {1})),
                  ContractError);
  store.finish_loading();
  CHECK(to_float(mapped.data_as<BFloat16>()[5]) == 1.5f);
  CHECK(to_float(copied.data_as<BFloat16>()[1]) == 3.0f);
}

TEST_CASE("a shard that lost its end is refused by name") {
  const TemporaryFolder folder;
  folder.write("a.safetensors", kOneTensor);
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"t": "a.safetensors", "u": "b.safetensors"}})");
  const std::string whole = safetensors_bytes({{"u", {2}, std::vector<BFloat16>(2)}}, "F32");
  for (size_t num_bytes = 1; num_bytes < whole.size(); ++num_bytes) {
    CAPTURE(num_bytes);
    folder.write("b.safetensors", whole.substr(0, num_bytes));
    const std::string error = load_error_of([&] { WeightStore store(folder.path()); });
    CHECK_THAT(error, Contains("b.safetensors"));
    CHECK(error.find('\n') == std::string::npos);
  }
}

TEST_CASE("a folder without weights says what was looked for") {
  const TemporaryFolder folder;
  CHECK_THAT(load_error_of([&] { WeightStore store(folder.path()); }),
             Contains("neither model.safetensors nor model.safetensors.index.json"));
}

TEST_CASE("shards are found through the index") {
  const TemporaryFolder folder;
  folder.write("model-1.safetensors", kOneTensor);
  folder.write("model-2.safetensors", safetensors_bytes({{"u", {1}, {to_bfloat16(-2.0f)}}}));
  folder.write("model.safetensors.index.json",
               R"({"metadata": {"total_size": 14}, "weight_map":
                   {"t": "model-1.safetensors", "u": "model-2.safetensors"}})");
  WeightStore store(folder.path());
  CHECK(to_float(store.get("t", DType::kBF16, {2, 3}).data_as<BFloat16>()[0]) == 1.5f);
  CHECK(to_float(store.get("u", DType::kBF16, {1}).data_as<BFloat16>()[0]) == -2.0f);
}

TEST_CASE("an index cannot point outside the folder") {
  const TemporaryFolder outside;
  outside.write("secret.safetensors", kOneTensor);
  const TemporaryFolder folder;
  const std::string neighbour = "../" + outside.path().filename().string() + "/secret.safetensors";
  const std::string absolute = (outside.path() / "secret.safetensors").string();
  for (const std::string& shard :
       {neighbour, absolute, std::string("..\\\\secret.safetensors"), std::string(".."),
        std::string("sub/model.safetensors"), std::string(".hidden.safetensors"), std::string(""),
        std::string("/etc/passwd"), std::string("a\\u0000.safetensors")}) {
    CAPTURE(shard);
    folder.write("model.safetensors.index.json", R"({"weight_map": {"t": ")" + shard + "\"}}");
    CHECK_THAT(load_error_of([&] { WeightStore store(folder.path()); }),
               Contains("not the name of a .safetensors file of this folder"));
  }
}

TEST_CASE("an index that lies about its shards is refused") {
  const TemporaryFolder folder;
  folder.write("a.safetensors", kOneTensor);
  const auto error_of_index = [&folder](const std::string& index) {
    folder.write("model.safetensors.index.json", index);
    return load_error_of([&] { WeightStore store(folder.path()); });
  };
  CHECK_THAT(error_of_index(R"({"weight_map": {"other": "a.safetensors"}})"),
             Contains("tensor \"other\" is not in a.safetensors"));
  CHECK_THAT(error_of_index(R"({"weight_map": {"t": "b.safetensors"}})"),
             Contains("b.safetensors: No such file"));
  CHECK_THAT(error_of_index(R"({"weight_map": {"t": 1}})"), Contains("said to be in 1"));
  CHECK_THAT(error_of_index(R"({"weight_map": []})"), Contains("'weight_map'"));
  CHECK_THAT(error_of_index("{}"), Contains("'weight_map'"));
  CHECK_THAT(error_of_index("{"), Contains("index.json"));
}

}  // namespace
}  // namespace quire::test
