#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"
#include "tests/support/without_instructions.h"

// The products of the cpu backend with AMX, as a CPU without it computes them, and as one without
// AVX512_BF16 and AVX512_VNNI. The other tests run with what this CPU has.

namespace quire::test {
namespace {

// Two tiles of rows and more, a panel of columns and more, and more words of k than are taken at
// once.
constexpr int64_t kRows = 53, kColumns = 70, kDepth = 2331;

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

/// Which instructions make products, for as long as it lives.
class ForcedProducts {
 public:
  enum Kind { kAmx, kDots, kNeither };

  explicit ForcedProducts(Kind kind) {
    if (kind != kAmx) without_amx_.emplace();
    if (kind == kNeither) {
      without_dots_.emplace();
      REQUIRE_FALSE(cpu::panel_dot::has_int8());
      REQUIRE_FALSE(cpu::panel_dot::has_bf16());
    }
    is_possible_ = (kind != kAmx || cpu::amx::is_available()) &&
                   cpu::panel_dot::has_bf16() == (kind != kNeither);
  }
  /// False: this CPU does not have them.
  bool is_possible() const { return is_possible_; }

 private:
  std::optional<WithoutAmx> without_amx_;
  std::optional<WithoutPanelDots> without_dots_;
  bool is_possible_;
};

constexpr auto kKinds = {ForcedProducts::kAmx, ForcedProducts::kDots, ForcedProducts::kNeither};

TEST_CASE("cpu products: int8 has the same bits whatever the instructions") {
  const Inputs inputs;
  const auto expected = product("reference", inputs, WeightFormat::kInt8);
  const ForcedProducts::Kind kind = GENERATE(values(kKinds));
  const ForcedProducts forced(kind);
  if (!forced.is_possible()) return;
  CAPTURE(kind);
  CHECK(difference(product("cpu", inputs, WeightFormat::kInt8), expected) == "");
}

TEST_CASE(
    "cpu products: bf16 is right whatever the instructions, and a row alone has the same bits") {
  const Inputs inputs;
  const auto expected = product("reference", inputs, WeightFormat::kOriginal);
  const ForcedProducts::Kind kind = GENERATE(values(kKinds));
  const ForcedProducts forced(kind);
  if (!forced.is_possible()) return;
  CAPTURE(kind);
  const auto all = product("cpu", inputs, WeightFormat::kOriginal);
  // Each of kDepth products is below 25 in magnitude, and so many roundings of their sum.
  const double bound = 2 * kF32Roundoff * kDepth * kDepth * 25;
  CHECK(difference(all, expected, {.at = [bound](size_t) { return bound; }}) == "");
  for (int64_t row = 0; row < kRows; ++row) {
    CAPTURE(row);
    const auto one = product("cpu", inputs, WeightFormat::kOriginal, 1, row);
    const auto begin = all.begin() + row * kColumns;
    CHECK(difference(one, std::vector<float>(begin, begin + kColumns)) == "");
  }
}

}  // namespace
}  // namespace quire::test
