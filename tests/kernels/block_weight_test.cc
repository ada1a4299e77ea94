// Weights that stay in GGUF's blocks: every product has the bits of the bf16 weight with the same
// numbers, so all that holds of bf16 weights (matmul_test.cc) holds of them.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>

#include "kernels/ops/matmul.h"
#include "kernels/quant/block_matrix.h"
#include "tests/kernels/weight_product.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

const std::vector<BlockFormat> kFormats{BlockFormat::kQ8_0, BlockFormat::kQ4_0, BlockFormat::kQ4_K,
                                        BlockFormat::kQ5_K, BlockFormat::kQ6_K};

/// Where a block has binary16 numbers.
std::vector<int64_t> factor_offsets(BlockFormat format) {
  if (format == BlockFormat::kQ4_K || format == BlockFormat::kQ5_K) return {0, 2};
  return {format == BlockFormat::kQ6_K ? 208 : 0};
}

/// Random blocks with factors of either sign, about 2^-8; and the bf16 numbers that they stand for.
struct Blocks {
  BlockFormat format;
  int64_t num_rows, num_columns;
  std::vector<std::byte> bytes;
  std::vector<BFloat16> numbers;

  Blocks(BlockFormat of, int64_t rows, int64_t columns, std::mt19937& random)
      : format(of),
        num_rows(rows),
        num_columns(columns),
        bytes(static_cast<size_t>(rows * block_row_bytes(of, columns))) {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    const auto block_bytes = static_cast<size_t>(block_layout(format).num_bytes);
    for (size_t block = 0; block < bytes.size(); block += block_bytes) {
      for (const int64_t offset : factor_offsets(format)) {
        const auto bits = static_cast<uint16_t>((random() & 0x83FF) | 0x1C00);
        std::memcpy(bytes.data() + block + offset, &bits, sizeof(bits));
      }
    }
    widen();
  }

  void widen() {
    std::vector<float> row(static_cast<size_t>(num_columns));
    numbers.clear();
    for (int64_t i = 0; i < num_rows; ++i) {
      widen_blocks(format, matrix().row(i), row);
      for (const float value : row) numbers.push_back(to_bfloat16(value));
    }
  }
  BlockMatrix matrix() const { return {format, bytes.data(), num_rows, num_columns}; }
  ConstTensorView view() const { return make_view(numbers.data(), {num_rows, num_columns}); }
};

std::vector<std::string> backends_with_blocks() {
  return backends_that([](const Backend& backend) { return backend.keeps_blocks(); });
}

TEST_CASE("matmul: weights in blocks give the bits of the bf16 weight with their numbers") {
  const auto name = GENERATE(from_range(backends_with_blocks()));
  if (name.empty()) return;
  const auto format = GENERATE(from_range(kFormats));
  const int64_t block = block_layout(format).num_elements;
  // One block; rows that end within a panel; more columns than are widened at a time.
  const auto [n, num_blocks] =
      GENERATE(table<int64_t, int64_t>({{1, 1}, {70, 3}, {130, 9}, {64, 17}}));
  CAPTURE(name, block_layout(format).name, n, num_blocks);
  std::mt19937 random(3);
  const Blocks blocks(format, n, num_blocks * block, random);
  const auto backend = make_test_backend(name);
  const BlockMatrix part = blocks.matrix();
  const auto kept = backend->pack_blocks({&part, 1});
  const ConstTensorView view = blocks.view();
  const auto widened = backend->pack_weight({&view, 1}, WeightFormat::kOriginal);
  CHECK(kept->num_rows() == n);
  CHECK(kept->num_columns() == num_blocks * block);
  CHECK(kept->value_bytes() == static_cast<int64_t>(blocks.bytes.size()));
  RandomTensors values(4);
  for (const int64_t num_rows : {1, 2, 7, 127, 260}) {
    CAPTURE(num_rows);
    const auto a = values.normal_bf16(static_cast<size_t>(num_rows * num_blocks * block));
    CHECK(difference(product(*backend, *kept, a), product(*backend, *widened, a)) == "");
  }
}

TEST_CASE("matmul: blocks of several formats stand one below the other") {
  const auto name = GENERATE(from_range(backends_with_blocks()));
  if (name.empty()) return;
  CAPTURE(name);
  std::mt19937 random(5);
  constexpr int64_t kColumns = 512;
  std::vector<Blocks> parts;
  std::vector<BlockMatrix> matrices;
  std::vector<ConstTensorView> views;
  for (const BlockFormat format : kFormats) parts.emplace_back(format, 33, kColumns, random);
  for (const Blocks& part : parts) {
    matrices.push_back(part.matrix());
    views.push_back(part.view());
  }
  const auto backend = make_test_backend(name);
  const auto kept = backend->pack_blocks(matrices);
  const auto widened = backend->pack_weight(views, WeightFormat::kOriginal);
  // The blocks have been copied.
  for (Blocks& part : parts) std::fill(part.bytes.begin(), part.bytes.end(), std::byte{0xFF});
  const auto a = RandomTensors(6).normal_bf16(3 * kColumns);
  CHECK(difference(product(*backend, *kept, a), product(*backend, *widened, a)) == "");
}

TEST_CASE("matmul: blocks with infinite and NaN factors spread them like bf16 weights") {
  const auto name = GENERATE(from_range(backends_with_blocks()));
  if (name.empty()) return;
  const auto format = GENERATE(from_range(kFormats));
  CAPTURE(name, block_layout(format).name);
  std::mt19937 random(7);
  Blocks blocks(format, 3, 512, random);
  const uint16_t infinity = 0x7C00, nan = 0x7E01;
  const auto offset = static_cast<size_t>(factor_offsets(format)[0]);
  const auto row_bytes = static_cast<size_t>(block_row_bytes(format, 512));
  std::memcpy(blocks.bytes.data() + offset, &infinity, sizeof(infinity));
  std::memcpy(blocks.bytes.data() + row_bytes + offset, &nan, sizeof(nan));
  blocks.widen();
  const auto backend = make_test_backend(name);
  const BlockMatrix part = blocks.matrix();
  const ConstTensorView view = blocks.view();
  const auto kept = backend->pack_blocks({&part, 1});
  const auto widened = backend->pack_weight({&view, 1}, WeightFormat::kOriginal);
  const auto a = RandomTensors(8).normal_bf16(512);
  CHECK(difference(product(*backend, *kept, a), product(*backend, *widened, a)) == "");
}

TEST_CASE("pack_blocks: parts that do not fit together, or whole blocks, are refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  std::mt19937 random(9);
  const Blocks wide(BlockFormat::kQ8_0, 2, 64, random), narrow(BlockFormat::kQ8_0, 2, 32, random);
  const BlockMatrix matrix = wide.matrix();
  if (!backend->keeps_blocks()) {
    CHECK_THROWS_AS(backend->pack_blocks({&matrix, 1}), ContractError);
    return;
  }
  CHECK_NOTHROW(backend->pack_blocks({&matrix, 1}));
  CHECK_THROWS_AS(backend->pack_blocks({}), ContractError);
  const std::vector<BlockMatrix> uneven{matrix, narrow.matrix()};
  CHECK_THROWS_AS(backend->pack_blocks(uneven), ContractError);
  BlockMatrix broken = matrix;
  broken.num_columns = 48;
  CHECK_THROWS_AS(backend->pack_blocks({&broken, 1}), ContractError);
}

}  // namespace
}  // namespace quire::test
