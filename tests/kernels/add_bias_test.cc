#include "kernels/ops/add_bias.h"

#include <catch2/catch.hpp>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

TEST_CASE("add_bias: every element is one f32 sum, exactly") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t width = GENERATE(1, 13, 64, 300);
  CAPTURE(name, width);
  const auto backend = make_test_backend(name);
  constexpr int64_t kNumRows = 5;
  RandomTensors random(11);
  std::vector<float> rows = random.normal(static_cast<size_t>(kNumRows * width), 4);
  rows[0] = poison<float>();
  const std::vector<float> wide_bias = random.normal(static_cast<size_t>(width), 2);
  const std::vector<BFloat16> narrow_bias = narrow(wide_bias);
  const auto expected_with = [&](const std::vector<float>& bias) {
    std::vector<float> sums = rows;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += bias[i % bias.size()];
    return sums;
  };
  const DeviceTensor<float> x(*backend, rows, {kNumRows, width}, 3);
  const DeviceTensor<BFloat16> bias(*backend, narrow_bias, {width});
  backend->add_bias({.x = x, .bias = bias});
  CHECK(difference(x.download(), expected_with(widen(narrow_bias))) == "");

  const DeviceTensor<float> other(*backend, rows, {kNumRows, width}, 1);
  const DeviceTensor<float> exact_bias(*backend, wide_bias, {width});
  backend->add_bias({.x = other, .bias = exact_bias});
  CHECK(difference(other.download(), expected_with(wide_bias)) == "");
}

}  // namespace
}  // namespace quire::test
