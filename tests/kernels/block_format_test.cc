#include "kernels/quant/block_format.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "kernels/check.h"

namespace quire {
namespace {

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes(text.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

/// Blocks, and what the format's reference implementation makes of them.
struct Golden {
  std::vector<std::byte> blocks;
  std::vector<float> numbers;
};

Golden load_golden(const std::string& name) {
  std::ifstream file(std::string(QUIRE_SOURCE_DIR) + "/tests/kernels/data/block_golden.json");
  const nlohmann::json root = nlohmann::json::parse(file);
  Golden golden;
  golden.blocks = from_hex(root.at(name).at("blocks"));
  const std::vector<std::byte> bytes = from_hex(root.at(name).at("numbers"));
  for (size_t i = 0; i < bytes.size(); i += 4) {
    uint32_t bits = 0;
    for (size_t b = 4; b-- > 0;) bits = bits << 8 | std::to_integer<uint32_t>(bytes[i + b]);
    golden.numbers.push_back(std::bit_cast<float>(bits));
  }
  return golden;
}

TEST_CASE("blocks of every format become the very numbers of the reference implementation") {
  const auto format = GENERATE(BlockFormat::kQ8_0, BlockFormat::kQ4_0, BlockFormat::kQ4_K,
                               BlockFormat::kQ5_K, BlockFormat::kQ6_K);
  const BlockLayout layout = block_layout(format);
  CAPTURE(layout.name);
  Golden golden = load_golden(std::string(layout.name));
  REQUIRE(golden.numbers.size() >= 768);
  REQUIRE(static_cast<int64_t>(golden.blocks.size()) ==
          block_row_bytes(format, static_cast<int64_t>(golden.numbers.size())));
  // A mapped file gives blocks any address.
  golden.blocks.insert(golden.blocks.begin(), std::byte{0});
  std::vector<float> numbers(golden.numbers.size());
  widen_blocks(format, golden.blocks.data() + 1, numbers);
  for (size_t i = 0; i < numbers.size(); ++i) {
    CAPTURE(i, numbers[i], golden.numbers[i]);
    REQUIRE(std::bit_cast<uint32_t>(numbers[i]) == std::bit_cast<uint32_t>(golden.numbers[i]));
  }
}

TEST_CASE("binary16 numbers become floats exactly, subnormal, infinite and NaN ones too") {
  const Golden golden = load_golden("F16");
  REQUIRE(golden.numbers.size() > 400);
  for (size_t i = 0; i < golden.numbers.size(); ++i) {
    const auto bits = static_cast<uint16_t>(std::to_integer<int>(golden.blocks[2 * i]) |
                                            std::to_integer<int>(golden.blocks[2 * i + 1]) << 8);
    CAPTURE(bits);
    const float number = float16_to_float(bits);
    if (std::isnan(golden.numbers[i])) {
      REQUIRE(std::isnan(number));
    } else {
      REQUIRE(std::bit_cast<uint32_t>(number) == std::bit_cast<uint32_t>(golden.numbers[i]));
    }
  }
  for (const auto& [bits, value] : {std::pair<uint16_t, float>{0x0000, 0.0f},
                                    {0x0001, 0x1p-24f},
                                    {0x03FF, 0x1.ff8p-15f},
                                    {0x0400, 0x1p-14f},
                                    {0x7BFF, 65504.0f},
                                    {0x7C00, INFINITY},
                                    {0xFC00, -INFINITY}}) {
    CHECK(float16_to_float(bits) == value);
  }
  CHECK(std::signbit(float16_to_float(0x8000)));
}

TEST_CASE("a row that is no whole number of blocks is a broken contract") {
  CHECK(block_row_bytes(BlockFormat::kQ8_0, 64) == 68);
  CHECK_THROWS_AS(block_row_bytes(BlockFormat::kQ8_0, 33), ContractError);
  std::vector<float> out(128);
  CHECK_THROWS_AS(widen_blocks(BlockFormat::kQ6_K, nullptr, out), ContractError);
}

}  // namespace
}  // namespace quire
