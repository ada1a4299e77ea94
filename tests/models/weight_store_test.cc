#include "models/weights/weight_store.h"

#include <catch2/catch.hpp>
#include <string>

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
  CHECK_THAT(get_error(folder, "t", DType::kF32, {2, 3}), Contains("expected F32 [2, 3]"));

  folder.write(
      "model.safetensors",
      safetensors_bytes(R"({"t": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}})", "xx"));
  CHECK_THAT(get_error(folder, "t", DType::kBF16, {1}),
             Contains("expected BF16 [1], actual F16 [1] (convert the weights to bfloat16)"));
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
