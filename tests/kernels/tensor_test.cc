#include "kernels/tensor.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/tensor_check.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("bfloat16: rounds to nearest even and keeps what is special") {
  CHECK(round_to_bfloat16(1.0f + 0x1p-8f) == 1.0f);
  CHECK(round_to_bfloat16(1.0f + 0x1p-8f + 0x1p-20f) == 1.0f + 0x1p-7f);
  CHECK(round_to_bfloat16(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);
  CHECK(std::isinf(round_to_bfloat16(std::numeric_limits<float>::max())));
  CHECK(round_to_bfloat16(-HUGE_VALF) == -HUGE_VALF);
  CHECK(std::signbit(round_to_bfloat16(-0.0f)));
  // A NaN whose payload lies in the lower half only must not become an infinity.
  CHECK(std::isnan(round_to_bfloat16(std::bit_cast<float>(0x7F800001u))));
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BFloat16 value{static_cast<uint16_t>(bits)};
    if (!std::isnan(to_float(value)) && to_bfloat16(to_float(value)) != value) {
      FAIL("bf16 bits " << bits << " do not survive f32");
    }
  }
}

TEST_CASE("tensor: views know their layout") {
  std::vector<float> data(24);
  TensorView view = make_view(data.data(), {2, 3, 4});
  CHECK(view.num_elements() == 24);
  CHECK(view.is_contiguous());
  CHECK(view.stride[0] == 12);
  view.stride[0] = 13;
  CHECK_FALSE(view.is_contiguous());
  // Nobody steps along an axis of one element, so its stride does not count.
  view.shape[0] = 1;
  CHECK(view.is_contiguous());
  CHECK(make_view(data.data(), {0, 3}).num_elements() == 0);
}

TEST_CASE("tensor: rows and typed access are checked") {
  std::vector<int64_t> data(12);
  TensorView view = make_view(data.data(), {3, 4});
  CHECK(view.rows(1, 2).data == data.data() + 4);
  CHECK(view.rows(3, 0).shape[0] == 0);
  CHECK_THROWS_AS(view.rows(2, 2), ContractError);
  CHECK_THROWS_AS(view.rows(-1, 1), ContractError);
  CHECK(view.data_as<int64_t>() == data.data());
  CHECK_THROWS_WITH(view.data_as<float>(), Contains("expected f32") && Contains("actual i64"));
}

TEST_CASE("tensor_check: extents bind at first sight and are compared after") {
  std::vector<float> data(24);
  const TensorCheck check("op");
  Extent rows("num_rows"), width("width");
  const ConstTensorView good = make_view(data.data(), {2, 3});
  check.tensor("a", good, {DType::kF32}, {&rows, &width});
  CHECK(rows.value() == 2);
  CHECK_NOTHROW(check.tensor("b", good, {DType::kBF16, DType::kF32}, {&rows, &width}));
  CHECK_THROWS_WITH(
      check.tensor("c", make_view(data.data(), {2, 4}), {DType::kF32}, {&rows, &width}),
      Contains("op: c: expected f32 [num_rows=2, width=3]") && Contains("actual f32 [2:4, 4:1]"));
  CHECK_THROWS_WITH(check.tensor("d", make_view(data.data(), {6}), {DType::kF32}, {&rows, &width}),
                    Contains("actual f32 [6:1]"));
  CHECK_THROWS_WITH(check.tensor("e", good, {DType::kI32, DType::kI64}, {&rows, &width}),
                    Contains("expected i32 or i64") && Contains("actual f32"));
}

TEST_CASE("tensor_check: layout and missing memory") {
  std::vector<float> data(24);
  const TensorCheck check("op");
  Extent rows("num_rows"), width("width");
  ConstTensorView view = make_view(data.data(), {2, 3});
  view.stride[0] = 5;
  CHECK_NOTHROW(check.tensor("a", view, {DType::kF32}, {&rows, &width}));
  CHECK_THROWS_WITH(
      check.tensor("a", view, {DType::kF32}, {&rows, &width}, TensorCheck::Layout::kContiguous),
      Contains("contiguous") && Contains("2:5"));
  view.stride[1] = 2;
  CHECK_THROWS_AS(check.tensor("a", view, {DType::kF32}, {&rows, &width}), ContractError);
  view = make_view(static_cast<const float*>(nullptr), {2, 3});
  CHECK_THROWS_WITH(check.tensor("a", view, {DType::kF32}, {&rows, &width}),
                    Contains("without data"));
  Extent none("none");
  CHECK_NOTHROW(check.tensor("empty", make_view(static_cast<const float*>(nullptr), {0, 3}),
                             {DType::kF32}, {&none, &width}));
}

TEST_CASE("check: a failure carries its values and its place") {
  const int actual = 3;
  CHECK_NOTHROW([&] { QUIRE_CHECK(actual == 3) << "never built"; }());
  CHECK_THROWS_WITH([&] { QUIRE_CHECK(actual == 4) << "actual " << actual; }(),
                    Contains("tensor_test.cc") && Contains("actual == 4") && Contains("actual 3"));
}

}  // namespace
}  // namespace quire::test
