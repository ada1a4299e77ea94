// Products with weights that stay in FP8, against the bf16 weight of their numbers: the same bits.

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/quant/fp8_matrix.h"
#include "tests/kernels/weight_product.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

/// A matrix in FP8 and the numbers that it stands for.
struct Fp8Case {
  Fp8Case(int64_t num_rows, int64_t num_columns, int64_t tile_rows, int64_t tile_columns,
          std::mt19937& random)
      : codes(static_cast<size_t>(num_rows * num_columns)), widened(codes.size()) {
    shape = {.num_rows = num_rows,
             .num_columns = num_columns,
             .tile_rows = tile_rows,
             .tile_columns = tile_columns};
    for (std::byte& code : codes) {
      const auto value = static_cast<uint8_t>(random());
      code = std::byte{(value & 0x7F) == 0x7F ? uint8_t{0x7E} : value};  // NaN is for its own test
    }
    std::uniform_real_distribution<float> exponent(-12, 2);
    for (int64_t i = 0; i < shape.num_row_tiles() * shape.num_column_tiles(); ++i) {
      scales.push_back(std::exp2(exponent(random)));
    }
    widen();
  }
  void widen() { widen_fp8(matrix(), widened.data()); }
  Fp8Matrix matrix() const {
    Fp8Matrix whole = shape;
    whole.codes = codes;
    whole.scales = scales;
    return whole;
  }
  ConstTensorView view() const {
    return make_view(widened.data(), {shape.num_rows, shape.num_columns});
  }

  Fp8Matrix shape;  // without its spans
  std::vector<std::byte> codes;
  std::vector<float> scales;
  std::vector<BFloat16> widened;
};

/// That of the weight in FP8 and that of the bf16 weight agree, for few rows and for many.
void check_products(Backend& backend, const std::vector<const Fp8Case*>& cases) {
  std::vector<Fp8Matrix> parts;
  std::vector<ConstTensorView> views;
  for (const Fp8Case* one : cases) {
    parts.push_back(one->matrix());
    views.push_back(one->view());
  }
  const auto kept = backend.pack_fp8(parts);
  const auto widened = backend.pack_weight(views, WeightFormat::kOriginal);
  REQUIRE(kept != nullptr);
  CHECK(kept->num_rows() == widened->num_rows());
  CHECK(kept->num_columns() == widened->num_columns());
  for (const int64_t num_rows : {1, 5, 64, 65, 130}) {
    CAPTURE(num_rows);
    const auto a =
        RandomTensors(4).normal_bf16(static_cast<size_t>(num_rows * kept->num_columns()));
    CHECK(difference(product(backend, *kept, a), product(backend, *widened, a)) == "");
  }
}

std::vector<std::string> backends_with_fp8() {
  return backends_that([](const Backend& backend) { return backend.keeps_fp8(); });
}

TEST_CASE("matmul: weights in FP8 give the bits of the bf16 weight with their numbers") {
  const auto name = GENERATE(from_range(backends_with_fp8()));
  if (name.empty()) return;
  // Widths and heights that no library multiplies: its sums have an order of their own.
  // One scale for all, for each row, for tiles that are cut at the end; rows and columns that end
  // within a tile of the kernel, within 16 bytes, and with them.
  const auto [n, k, tile_rows, tile_columns] =
      GENERATE(table<int64_t, int64_t, int64_t, int64_t>({{1, 1, 1, 1},
                                                          {70, 70, 70, 70},
                                                          {60, 64, 1, 64},
                                                          {33, 200, 1, 200},
                                                          {130, 300, 128, 128},
                                                          {100, 192, 64, 64}}));
  CAPTURE(name, n, k, tile_rows, tile_columns);
  std::mt19937 random(3);
  const Fp8Case one(n, k, tile_rows, tile_columns, random);
  const auto backend = make_test_backend(name);
  check_products(*backend, {&one});
  const Fp8Matrix part = one.matrix();
  const int64_t num_tiles = part.num_column_tiles();
  CHECK(backend->pack_fp8({&part, 1})->value_bytes() == n * (k + 4 * num_tiles));
}

TEST_CASE("matmul: matrices in FP8 stand one below the other, each with its own scales") {
  const auto name = GENERATE(from_range(backends_with_fp8()));
  if (name.empty()) return;
  std::mt19937 random(5);
  const Fp8Case whole(33, 200, 33, 200, random), rows(20, 200, 1, 200, random),
      tiles(40, 200, 16, 64, random);
  check_products(*make_test_backend(name), {&whole, &rows, &tiles});
}

TEST_CASE("matmul: every code of FP8 under scales at the ends of f32 is rounded as on the host") {
  const auto name = GENERATE(from_range(backends_with_fp8()));
  if (name.empty()) return;
  // A row of 256 columns holds every code; a row of `a` that is zero but in one column reads it.
  // The third scale has all of f32's bits, so that products need their rounding; the fifth makes
  // the largest code a number just below bf16's end, the last one an infinity, which times zero is
  // NaN.
  const std::vector<float> scales{0.0f, 0x1p-90f,        0x1.FFFFFEp-8f,
                                  1.0f, 0x1.234566p119f, std::numeric_limits<float>::max()};
  std::mt19937 random(6);
  Fp8Case one(static_cast<int64_t>(scales.size()), 256, 1, 256, random);
  one.scales = scales;
  for (size_t i = 0; i < one.codes.size(); ++i) one.codes[i] = std::byte(i % 256);
  for (const size_t nan : {size_t{0x7F}, size_t{0xFF}}) {  // a NaN would be everywhere in its row
    for (size_t row = 0; row < scales.size(); ++row) one.codes[row * 256 + nan] = std::byte{0};
  }
  one.widen();
  const auto backend = make_test_backend(name);
  const Fp8Matrix part = one.matrix();
  const auto kept = backend->pack_fp8({&part, 1});
  REQUIRE(kept != nullptr);
  for (size_t column = 0; column < 256; ++column) {
    std::vector<BFloat16> a(256, BFloat16{});
    a[column] = to_bfloat16(1.0f);
    std::vector<float> expected;
    for (size_t row = 0; row < scales.size(); ++row) {
      float sum = 0;
      for (size_t k = 0; k < 256; ++k) {
        sum = std::fma(to_float(a[k]), to_float(one.widened[row * 256 + k]), sum);
      }
      expected.push_back(sum);
    }
    CAPTURE(column);
    CHECK(difference(product(*backend, *kept, a), expected) == "");
  }
}

TEST_CASE("matmul: a NaN in FP8 is NaN in its output and in no other") {
  const auto name = GENERATE(from_range(backends_with_fp8()));
  if (name.empty()) return;
  std::mt19937 random(7);
  Fp8Case one(20, 100, 1, 100, random);
  one.codes[3 * 100 + 50] = std::byte{0x7F};
  one.codes[17 * 100] = std::byte{0xFF};
  one.widen();
  check_products(*make_test_backend(name), {&one});
}

TEST_CASE("pack_fp8: what products are not made for is left to bf16, what is broken is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  std::mt19937 random(8);
  Fp8Case fine(4, 128, 1, 64, random);
  const Fp8Matrix part = fine.matrix();
  if (!backend->keeps_fp8()) {
    CHECK_THROWS_AS(backend->pack_fp8({&part, 1}), ContractError);
    return;
  }
  CHECK(backend->pack_fp8({&part, 1}) != nullptr);
  const Fp8Case narrow_tiles(4, 128, 1, 32, random), other_tiles(4, 256, 1, 128, random),
      wide(4, 256, 1, 64, random);
  const Fp8Matrix narrow = narrow_tiles.matrix();
  CHECK(backend->pack_fp8({&narrow, 1}) == nullptr);
  const std::vector<Fp8Matrix> of_two_tiles{wide.matrix(), other_tiles.matrix()};
  CHECK(backend->pack_fp8(of_two_tiles) == nullptr);
  fine.scales[1] = 0x1p-91f;
  const Fp8Matrix tiny = fine.matrix();
  CHECK(backend->pack_fp8({&tiny, 1}) == nullptr);

  CHECK_THROWS_AS(backend->pack_fp8({}), ContractError);
  const std::vector<Fp8Matrix> uneven{part, wide.matrix()};
  CHECK_THROWS_AS(backend->pack_fp8(uneven), ContractError);
  Fp8Matrix broken = part;
  broken.scales = broken.scales.first(3);
  CHECK_THROWS_AS(backend->pack_fp8({&broken, 1}), ContractError);
  broken = part;
  broken.codes = broken.codes.first(100);
  CHECK_THROWS_AS(backend->pack_fp8({&broken, 1}), ContractError);
}

}  // namespace
}  // namespace quire::test
