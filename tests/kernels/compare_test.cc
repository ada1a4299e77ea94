// The comparator is what every other test here trusts, so it is tested for what it must not let
// through.

#include "tests/support/compare.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/backends.h"
#include "tests/support/device_tensor.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;
using Floats = std::vector<float>;

const float kNan = poison<float>();
const float kInf = HUGE_VALF;

TEST_CASE("compare: no tolerance lets a NaN or an infinity pass") {
  const Tolerance huge{.absolute = HUGE_VAL};
  CHECK(difference(Floats{1, kNan}, Floats{1, kNan}, huge) == "");
  CHECK(difference(Floats{1, kInf}, Floats{1, kInf}, huge) == "");
  CHECK_THAT(difference(Floats{1, kNan}, Floats{1, 2}, huge), Contains("element 1 of 2"));
  CHECK_THAT(difference(Floats{1, 2}, Floats{1, kNan}, huge), Contains("element 1 of 2"));
  CHECK_THAT(difference(Floats{kInf}, Floats{-kInf}, huge), Contains("infinity"));
  CHECK_THAT(difference(Floats{kInf}, Floats{3e38f}, huge), Contains("infinity"));
  CHECK_THAT(difference(Floats{1}, Floats{2}, {.absolute = NAN}), Contains("tolerance"));
}

TEST_CASE("compare: the tolerance's edge, and the first offender is named") {
  CHECK(difference(Floats{1.5f}, Floats{1}, {.absolute = 0.5}) == "");
  CHECK(difference(Floats{4.5f}, Floats{4}, {.relative = 0.125}) == "");
  CHECK_THAT(difference(Floats{0, 1, 9, 9}, Floats{0, 1, 2, 3}, {.absolute = 0.5}),
             Contains("element 2 of 4") && Contains("actual 9") && Contains("expected 2"));
  const Tolerance by_index{.at = [](size_t index) { return index == 0 ? 1.0 : 0.0; }};
  CHECK(difference(Floats{1, 0}, Floats{0, 0}, by_index) == "");
  CHECK(difference(Floats{0, 1}, Floats{0, 0}, by_index) != "");
}

TEST_CASE("compare: exact means the bits, and sizes count") {
  CHECK(difference(Floats{0.0f}, Floats{-0.0f}) != "");
  CHECK(difference(Floats{kNan, 1}, Floats{-kNan, 1}) == "");
  CHECK(difference(Floats{1}, Floats{1 + 0x1p-23f}) != "");
  CHECK_THAT(difference(Floats{1}, Floats{1, 2}), Contains("1 elements, expected 2"));
  CHECK_THAT(difference(Floats{1}, Floats{1, 2}, {}), Contains("1 elements, expected 2"));
}

TEST_CASE("device tensor: writing between or behind the rows is found") {
  const auto backend = make_test_backend("reference");
  for (const int64_t offset : {-1, 2, 7}) {
    const DeviceTensor<float> tensor(*backend, {1, 2, 3, 4}, {2, 2}, 1);
    CHECK(tensor.download() == Floats{1, 2, 3, 4});
    static_cast<float*>(tensor.view().data)[offset] = 0;
    CHECK_THROWS_AS(tensor.download(), ContractError);
  }
}

}  // namespace
}  // namespace quire::test
