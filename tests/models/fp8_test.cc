// Folders whose matrices are stored in FP8. fp8.json has small ones as their writers save them, and
// the numbers that they stand for (models/tools/make_fp8_golden.py).

#include "kernels/quant/fp8_matrix.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/backend_registry.h"
#include "models/weights/weight_store.h"
#include "tests/models/model_driver.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;
using Json = nlohmann::json;

std::string from_hex(const std::string& text) {
  std::string bytes(text.size() / 2, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

/// The numbers that lie in these bytes.
template <class T>
std::vector<T> numbers_in(const std::string& bytes) {
  std::vector<T> numbers(bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

const Json& golden() {
  static const Json root =
      Json::parse(std::ifstream(std::string(QUIRE_SOURCE_DIR) + "/tests/models/fp8.json"));
  return root;
}

struct StoredTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using StoredTensors = std::map<std::string, StoredTensor>;

void write_folder(const TemporaryFolder& folder, const Json& config, const StoredTensors& tensors) {
  Json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  folder.write("config.json", config.dump());
  folder.write("model.safetensors", safetensors_bytes(header.dump(), data));
}

StoredTensors tensors_of(const Json& checkpoint) {
  StoredTensors tensors;
  for (const auto& [name, tensor] : checkpoint.at("tensors").items()) {
    tensors[name] = {tensor.at("dtype"), tensor.at("shape"), from_hex(tensor.at("data"))};
  }
  return tensors;
}

/// The checkpoint in bf16: what it says itself, and the expected numbers for what is in FP8.
StoredTensors plain_tensors_of(const Json& checkpoint) {
  StoredTensors tensors = tensors_of(checkpoint);
  for (const auto& [name, bits] : checkpoint.at("expected").items()) {
    tensors.at(name).dtype = "BF16";
    tensors.at(name).bytes = from_hex(bits);
  }
  return tensors;
}

const Json& checkpoint_named(const std::string& name) {
  for (const Json& checkpoint : golden().at("checkpoints")) {
    if (checkpoint.at("name") == name) return checkpoint;
  }
  throw std::out_of_range(name);
}

std::vector<float> logits_of(const TemporaryFolder& folder, const std::string& backend,
                             const ModelDriver::Limits& limits = {}) {
  const MobaConfig moba{.block_size = 4, .top_k = 3};
  ModelDriver driver(folder.path(), backend, moba, limits);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 50; ++i) tokens.push_back((i * i * 5 + i * 7) % kTinyVocab);
  return driver.prefill(driver.add_sequence(), tokens, 50, moba);
}

/// bf16 as its bits, so that NaN compares.
std::vector<uint16_t> widened(const std::string& codes, float scale) {
  const Fp8Matrix matrix{.codes = std::as_bytes(std::span(codes)),
                         .num_rows = 1,
                         .num_columns = static_cast<int64_t>(codes.size()),
                         .tile_columns = static_cast<int64_t>(codes.size()),
                         .scales = {&scale, 1}};
  std::vector<BFloat16> out(codes.size());
  widen_fp8(matrix, out.data());
  std::vector<uint16_t> bits;
  for (const BFloat16 number : out) bits.push_back(number.bits);
  return bits;
}

TEST_CASE("all 256 codes of E4M3 are the numbers of the format") {
  const auto expected = numbers_in<float>(from_hex(golden().at("codes")));
  REQUIRE(expected.size() == 256);
  std::string codes;
  for (size_t code = 0; code < 256; ++code) codes.push_back(static_cast<char>(code));
  const std::vector<uint16_t> times_one = widened(codes, 1.0f);
  for (size_t code = 0; code < 256; ++code) {
    CAPTURE(code);
    const float number = e4m3_to_float(static_cast<uint8_t>(code));
    CHECK(std::signbit(number) == std::signbit(expected[code]));
    CHECK(std::isnan(number) == std::isnan(expected[code]));
    CHECK(std::isnan(to_float(BFloat16{times_one[code]})) == std::isnan(expected[code]));
    if (std::isnan(expected[code])) continue;
    CHECK(std::bit_cast<uint32_t>(number) == std::bit_cast<uint32_t>(expected[code]));
    CHECK(times_one[code] == to_bfloat16(expected[code]).bits);  // four bits fit into eight
  }
}

TEST_CASE("a number in FP8 times its scale is rounded once") {
  const Json& near_tie = golden().at("near_tie");
  const float scale = numbers_in<float>(from_hex(near_tie.at("scale"))).front();
  const auto code = static_cast<uint8_t>(near_tie.at("code").get<int>());
  const auto expected = numbers_in<uint16_t>(from_hex(near_tie.at("expected"))).front();
  CHECK(widened({static_cast<char>(code)}, scale).front() == expected);
  CHECK(widened({static_cast<char>(code | 0x80)}, scale).front() == (expected | 0x8000));
  // What this test would not notice if rounding twice gave the same.
  REQUIRE(to_bfloat16(e4m3_to_float(code) * scale).bits != expected);
}

TEST_CASE("products in FP8 at the ends of bf16: overflow, subnormals, zero") {
  const std::string one = "\x38", largest = "\x7E", least = "\x01";
  CHECK(widened(largest, std::numeric_limits<float>::max()).front() == 0x7F80);  // infinity
  CHECK(widened(one, 0x1.FEp127f).front() == 0x7F7F);                            // the largest bf16
  CHECK(widened(least, 0x1p-124f).front() == 0x0001);  // 2^-9 of it is the least bf16
  // Half the least bf16 is a tie, to even: zero. A little more is not.
  CHECK(widened(least, 0x1p-125f).front() == 0x0000);
  CHECK(widened(least, 0x1.000002p-125f).front() == 0x0001);
  CHECK(widened("\x81", 0x1p-149f).front() == 0x8000);
  CHECK(widened(largest, 0.0f).front() == 0x0000);
}

TEST_CASE("a folder in FP8 holds the numbers of its format") {
  const size_t index = GENERATE(range(size_t{0}, size_t{5}));
  const Json& checkpoint = golden().at("checkpoints").at(index);
  CAPTURE(checkpoint.at("name").get<std::string>());
  const TemporaryFolder folder;
  const StoredTensors tensors = tensors_of(checkpoint);
  write_folder(folder, checkpoint.at("config"), tensors);
  WeightStore store(folder.path(), load_model_config(folder.path()).fp8);
  REQUIRE(checkpoint.at("expected").size() == 7);
  for (const auto& [name, bits] : checkpoint.at("expected").items()) {
    CAPTURE(name);
    REQUIRE(tensors.at(name).dtype == "F8_E4M3");
    const std::vector<int64_t>& shape = tensors.at(name).shape;
    const ConstTensorView view = store.get(name, DType::kBF16, {shape[0], shape[1]});
    const std::string expected = from_hex(bits);
    REQUIRE(static_cast<size_t>(view.num_elements()) * sizeof(BFloat16) == expected.size());
    CHECK(std::memcmp(view.data, expected.data(), expected.size()) == 0);
    store.release(view);
  }
}

TEST_CASE("a folder in FP8 gives the logits of the bf16 folder with its numbers") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  for (const Json& checkpoint : golden().at("checkpoints")) {
    CAPTURE(checkpoint.at("name").get<std::string>());
    Json config = checkpoint.at("config");
    const TemporaryFolder folder, plain;
    write_folder(folder, config, tensors_of(checkpoint));
    config.erase("quantization_config");
    write_folder(plain, config, plain_tensors_of(checkpoint));
    CHECK(logits_of(folder, backend) == logits_of(plain, backend));
  }
}

TEST_CASE("a folder in FP8 gives the same logits where it stays in FP8") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const Json& by_channel = checkpoint_named("compressed-tensors by channel");
  const TemporaryFolder folder;
  write_folder(folder, by_channel.at("config"), tensors_of(by_channel));
  const auto machine = make_backend(backend);
  const LoadOptions keep{.keep_fp8 = true};
  const auto load = [&](const TemporaryFolder& model) {
    return load_model(model.path(), *machine, nullptr, WeightFormat::kOriginal, keep);
  };
  if (!machine->keeps_fp8()) {
    CHECK_THAT(load_error_of([&] { load(folder); }),
               Contains("backend " + backend + " has no products of FP8"));
    return;
  }
  CHECK(logits_of(folder, backend, {.keep_fp8 = true}) == logits_of(folder, backend));
  const auto kept = load(folder), widened = load_model(folder.path(), *machine);
  CHECK(kept->weight_types() == "F8_E4M3, bf16 (activations are not quantised)");
  CHECK(kept->weight_bytes() < widened->weight_bytes());

  // Some of its matrices have scales that change within a step of the products: they are widened.
  const Json& by_block = checkpoint_named("compressed-tensors by block");
  const TemporaryFolder narrow, plain;
  write_folder(narrow, by_block.at("config"), tensors_of(by_block));
  CHECK(logits_of(narrow, backend, {.keep_fp8 = true}) == logits_of(narrow, backend));
  CHECK_THAT(load(narrow)->weight_types(), Contains("F8_E4M3 as bf16"));
  Json config = by_channel.at("config");
  config.erase("quantization_config");
  write_folder(plain, config, plain_tensors_of(by_channel));
  CHECK_THAT(load_error_of([&] { load(plain); }), Contains("no matrix of the model is stored in"));
}

TEST_CASE("a model in FP8 says what it is multiplied as") {
  const Json& checkpoint = checkpoint_named("compressed-tensors by channel");
  const TemporaryFolder folder;
  write_folder(folder, checkpoint.at("config"), tensors_of(checkpoint));
  const auto backend = make_backend("reference");
  std::string log;
  const LoadOptions options{.log = [&log](const std::string& line) { log += line + "\n"; }};
  const auto model = load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal, options);
  CHECK(model->weight_types() == "bf16, F8_E4M3 as bf16 (activations are not quantised)");
  CHECK_THAT(log, Contains("weights: stored as F8_E4M3, bf16 here"));
  CHECK(load_model(folder.path(), *backend, nullptr, WeightFormat::kInt8)->weight_types() ==
        "int8");
}

constexpr const char* kQuery = "model.layers.0.self_attn.q_proj.weight";
constexpr const char* kScales = "model.layers.0.self_attn.q_proj.weight_scale";

/// What is said about a checkpoint after `change` has been at its config and its tensors.
template <class Change>
std::string error_after(const std::string& name, const Change& change) {
  const Json& checkpoint = checkpoint_named(name);
  Json config = checkpoint.at("config");
  StoredTensors tensors = tensors_of(checkpoint);
  change(config, tensors);
  const TemporaryFolder folder;
  write_folder(folder, config, tensors);
  const auto backend = make_backend("reference");
  const std::string error = load_error_of([&] { load_model(folder.path(), *backend); });
  CHECK(error.find('\n') == std::string::npos);
  return error;
}

/// The same where one tensor has been replaced.
std::string error_with(const std::string& checkpoint, const std::string& name,
                       const StoredTensor& tensor) {
  return error_after(checkpoint, [&](Json&, StoredTensors& all) { all[name] = tensor; });
}

StoredTensor ones(std::vector<int64_t> shape) {
  size_t count = 1;
  for (const int64_t extent : shape) count *= static_cast<size_t>(extent);
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes.append("\x00\x00\x80\x3F", 4);
  return {"F32", std::move(shape), bytes};
}

TEST_CASE("scales in another shape than the scheme's are refused by name") {
  const std::string tensor = "compressed-tensors by tensor",
                    channel = "compressed-tensors by channel",
                    block = "compressed-tensors by block";
  CHECK(error_with(tensor, kScales, ones({})) == "");
  CHECK(error_with(channel, kScales, ones({16, 1})) == "");
  CHECK(error_with(block, kScales, ones({2, 2})) == "");
  CHECK_THAT(error_with(tensor, kScales, ones({2})),
             Contains("model.safetensors: tensor '" + std::string(kScales) +
                      "': expected [1] or [], actual F32 [2]"));
  CHECK_THAT(error_with(tensor, kScales, ones({1, 1})), Contains("expected [1] or [], actual F32"));
  CHECK_THAT(error_with(channel, kScales, ones({1, 16})), Contains("expected [16, 1], actual F32"));
  CHECK_THAT(error_with(channel, kScales, ones({20, 1})), Contains("actual F32 [20, 1]"));
  CHECK_THAT(error_with(channel, kScales, ones({1})), Contains("expected [16, 1], actual F32 [1]"));
  CHECK_THAT(error_with(block, kScales, ones({2, 1})), Contains("expected [2, 2], actual F32"));
}

TEST_CASE("scales that are missing, of another dtype or no factors are refused by name") {
  const std::string channel = "compressed-tensors by tensor";
  CHECK_THAT(error_after(channel, [](Json&, StoredTensors& all) { all.erase(kScales); }),
             Contains("tensor '" + std::string(kQuery) + "': missing tensor '" + kScales + "'"));
  CHECK_THAT(error_with(channel, kScales, {"I32", {1}, std::string(4, 1)}),
             Contains("expected F32, BF16 or F16, actual I32"));
  const auto with = [&](float scale) {
    return error_with(channel, kScales,
                      {"F32", {1}, {reinterpret_cast<const char*>(&scale), sizeof scale}});
  };
  CHECK(with(0.0f) == "");
  for (const float bad : {-1.0f, NAN, INFINITY}) {
    CHECK_THAT(with(bad), Contains("expected finite scales that are not negative, actual "));
  }
}

TEST_CASE("scales of FP8 have one name") {
  const std::string by_tensor = "fp8 by tensor", inverse = kQuery + std::string("_scale_inv");
  const auto rename = [&](Json&, StoredTensors& all) {
    all[inverse] = all.at(kScales);
    all.erase(kScales);
  };
  CHECK(error_after(by_tensor, rename) == "");
  CHECK_THAT(error_with(by_tensor, inverse, ones({})),
             Contains("expected one tensor of scales, actual '" + inverse + "' and '" + kScales));
  CHECK_THAT(error_after("compressed-tensors by tensor", rename),
             Contains("missing tensor '" + std::string(kScales) + "'"));
}

TEST_CASE("a folder in FP8 that contradicts itself is refused by name") {
  const std::string channel = "compressed-tensors by channel";
  const std::string zero_point = kQuery + std::string("_zero_point");
  CHECK_THAT(error_after(channel,
                         [](Json& config, StoredTensors&) {
                           config["quantization_config"]["ignore"].push_back(
                               "model.layers.0.self_attn.q_proj");
                         }),
             Contains("tensor '" + std::string(kQuery) +
                      "': expected BF16, as quantization_config says that it is not quantised"));
  CHECK_THAT(error_with(channel, kQuery, {"BF16", {16, 20}, std::string(640, 0)}),
             Contains("expected a matrix in F8_E4M3, as there is a '" + std::string(kScales) +
                      "', actual BF16 [16, 20]"));
  CHECK_THAT(error_with(channel, kQuery, {"F8_E5M2", {16, 20}, std::string(320, 0)}),
             Contains("expected a matrix in F8_E4M3"));
  CHECK_THAT(error_with(channel, zero_point, ones({16, 1})),
             Contains("expected no '" + zero_point + "'"));
  CHECK_THAT(error_with(channel, kQuery, {"F8_E4M3", {20, 16}, std::string(320, 0)}),
             Contains("expected BF16 [16, 20], actual F8_E4M3 [20, 16]"));
  CHECK_THAT(error_with(channel, "model.norm.weight", {"F8_E4M3", {20}, std::string(20, 0)}),
             Contains("tensor 'model.norm.weight': expected BF16 [20], actual F8_E4M3 [20]"));
  CHECK_THAT(error_after(channel,
                         [](Json& config, StoredTensors&) { config.erase("quantization_config"); }),
             Contains("expected BF16 [16, 20], actual F8_E4M3 [16, 20]"));
}

TEST_CASE("a module that is not quantised is read as it is stored") {
  const Json& checkpoint = checkpoint_named("compressed-tensors by channel");
  StoredTensors tensors = tensors_of(checkpoint);
  tensors.at(kQuery) = plain_tensors_of(checkpoint).at(kQuery);
  tensors.erase(kScales);
  const TemporaryFolder folder;
  write_folder(folder, checkpoint.at("config"), tensors);
  WeightStore store(folder.path(), load_model_config(folder.path()).fp8);
  const ConstTensorView view = store.get(kQuery, DType::kBF16, {16, 20});
  CHECK(std::memcmp(view.data, tensors.at(kQuery).bytes.data(), 640) == 0);
}

/// What is said about a quantization_config in which `key` (a JSON pointer) has become `value`.
std::string config_error(const std::string& checkpoint, const std::string& key, const Json& value) {
  Json config = checkpoint_named(checkpoint).at("config");
  config["quantization_config"][Json::json_pointer(key)] = value;
  return load_error_of([&] { parse_model_config(config.dump(), "config.json"); });
}

TEST_CASE("schemes of quantisation that are not known are refused by key") {
  const std::string weights = "/config_groups/group_0/weights";
  const auto [key, value, name] = GENERATE_COPY(table<std::string, std::string, std::string>({
      {"/quant_method", R"("gptq")", "quant_method"},
      {"/quant_method", "null", "quant_method"},
      {"/format", R"("pack-quantized")", "format"},
      {"/format", R"("mixed-precision")", "format"},
      {"/kv_cache_scheme", R"({"num_bits": 8})", "kv_cache_scheme"},
      {"/transform_config", R"({"config_groups": {"u": {}}})", "transform_config"},
      {"/sparsity_config", R"({"format": "sparse-24-bitmask"})", "sparsity_config.format"},
      {"/ignore", R"("lm_head")", "ignore"},
      {"/ignore", "[1]", "ignore"},
      {"/rotation", "true", "rotation"},
      {"/config_groups", "{}", "config_groups"},
      {"/config_groups", "[]", "config_groups"},
      {"/config_groups/group_1", "{}", "config_groups"},
      {"/config_groups/group_0", "1", "config_groups[0]"},
      {"/config_groups/group_0/format", R"("nvfp4-pack-quantized")", "config_groups[0].format"},
      {"/config_groups/group_0/output_activations", "{}", "config_groups[0].output_activations"},
      {weights, "null", "config_groups[0].weights"},
      {weights + "/num_bits", "4", "config_groups[0].weights.num_bits"},
      {weights + "/type", R"("int")", "config_groups[0].weights.type"},
      {weights + "/symmetric", "false", "config_groups[0].weights.symmetric"},
      {weights + "/strategy", R"("group")", "config_groups[0].weights.strategy"},
      {weights + "/strategy", "null", "config_groups[0].weights.strategy"},
      {weights + "/group_size", "128", "config_groups[0].weights.group_size"},
      {weights + "/dynamic", "true", "config_groups[0].weights.dynamic"},
      {weights + "/actorder", R"("group")", "config_groups[0].weights.actorder"},
      {weights + "/block_structure", "[128, 128]", "config_groups[0].weights.block_structure"},
  }));
  CAPTURE(key, value);
  const std::string error = config_error("compressed-tensors by tensor", key, Json::parse(value));
  CHECK_THAT(error, Contains("config.json: ") && Contains("quantization_config." + name));
  CHECK(error.size() < 400);
}

TEST_CASE("blocks of FP8 have rows and columns, and numbers are E4M3") {
  const std::string block = "compressed-tensors by block", fp8 = "fp8 by block";
  const std::string structure = "/config_groups/group_0/weights/block_structure";
  for (const std::string bad : {"[128]", "[128, 128, 1]", "[0, 128]", "[-1, 1]", "128", "[]",
                                R"("128x128")", "[1.5, 2]", "[99999999999, 1]"}) {
    CAPTURE(bad);
    CHECK_THAT(
        config_error(block, structure, Json::parse(bad)),
        Contains("'quantization_config.config_groups[0].weights.block_structure': expected"));
    CHECK_THAT(config_error(fp8, "/weight_block_size", Json::parse(bad)),
               Contains("'quantization_config.weight_block_size': expected"));
  }
  CHECK_THAT(config_error(block, structure, nullptr), Contains("block_structure': expected"));
  CHECK_THAT(config_error(fp8, "/fmt", "e5m2"), Contains("'quantization_config.fmt'"));
  CHECK_THAT(config_error(fp8, "/scale_fmt", "ue8m0"), Contains("'quantization_config.scale_fmt'"));
  CHECK(config_error(fp8, "/fmt", nullptr) == "");
}

TEST_CASE("what the writers of FP8 add without changing a weight is accepted") {
  const std::string tensor = "compressed-tensors by tensor", group = "/config_groups/group_0";
  CHECK(config_error(tensor, "/version", "0.12.2") == "");
  CHECK(config_error(tensor, "/transform_config", Json::object()) == "");
  CHECK(config_error(tensor, "/sparsity_config", Json::object()) == "");
  CHECK(config_error(tensor, "/sparsity_config", {{"format", "dense"}, {"targets", {}}}) == "");
  CHECK(config_error(tensor, "/ignore", nullptr) == "");
  CHECK(config_error(tensor, "/ignore", {"re:.*lm_head", "Embedding"}) == "");
  CHECK(config_error(tensor, group + "/format", "float-quantized") == "");
  CHECK(config_error(tensor, group + "/weights/actorder", false) == "");
  CHECK(config_error("compressed-tensors by channel", group + "/weights/group_size", -1) == "");
  CHECK(config_error("fp8 by tensor", "/weight_block_size", nullptr) == "");
  CHECK(config_error("fp8 by tensor", "/dequantize", true) == "");
}

}  // namespace
}  // namespace quire::test
