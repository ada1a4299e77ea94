#include <catch2/catch.hpp>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"
#include "tests/support/without_panel_dots.h"

// The products of the cpu backend as a CPU without AVX512_BF16 and AVX512_VNNI computes them. The
// other tests run with what this CPU has.

namespace quire::test {
namespace {

constexpr int64_t kRows = 21, kColumns = 70, kDepth = 331;

struct Inputs {
  RandomTensors random{11};
  std::vector<BFloat16> weight = random.normal_bf16(kColumns * kDepth);
  std::vector<BFloat16> a = random.normal_bf16(kRows * kDepth);
};

std::vector<float> product(const std::string& backend_name, const Inputs& inputs,
                           WeightFormat format, int64_t num_rows = kRows, int64_t first_row = 0) {
  const auto backend = make_test_backend(backend_name);
  const ConstTensorView part = make_view(inputs.weight.data(), {kColumns, kDepth});
  const auto packed = backend->pack_weight({&part, 1}, format);
  const auto begin = inputs.a.begin() + first_row * kDepth;
  std::vector<BFloat16> rows(begin, begin + num_rows * kDepth);
  const DeviceTensor<BFloat16> a(*backend, rows, {num_rows, kDepth});
  const DeviceTensor<float> out(*backend, {num_rows, kColumns});
  backend->matmul({.a = a, .weight = packed.get(), .out = out});
  return out.download();
}

TEST_CASE("cpu products: int8 has the same bits without AVX512_VNNI") {
  const Inputs inputs;
  const auto expected = product("reference", inputs, WeightFormat::kInt8);
  const WithoutPanelDots without;
  REQUIRE_FALSE(cpu::panel_dot::has_int8());
  CHECK(difference(product("cpu", inputs, WeightFormat::kInt8), expected) == "");
}

TEST_CASE("cpu products: bf16 without AVX512_BF16 is right, and a row alone has the same bits") {
  const Inputs inputs;
  const auto expected = product("reference", inputs, WeightFormat::kOriginal);
  const WithoutPanelDots without;
  REQUIRE_FALSE(cpu::panel_dot::has_bf16());
  const auto all = product("cpu", inputs, WeightFormat::kOriginal);
  // Each of kDepth products is below 25 in magnitude, and so many roundings of their sum.
  const double bound = 2 * kF32Roundoff * kDepth * kDepth * 25;
  CHECK(difference(all, expected, {.at = [bound](size_t) { return bound; }}) == "");
  const int64_t row = GENERATE(range(int64_t{0}, kRows));
  CAPTURE(row);
  const auto one = product("cpu", inputs, WeightFormat::kOriginal, 1, row);
  const auto begin = all.begin() + row * kColumns;
  CHECK(difference(one, std::vector<float>(begin, begin + kColumns)) == "");
}

}  // namespace
}  // namespace quire::test
