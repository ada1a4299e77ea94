#include "kernels/ops/head_norm.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

constexpr int64_t kNumTokens = 3, kNumHeads = 5;

std::vector<float> run(Backend& backend, const std::vector<float>& x,
                       const std::vector<float>& weight) {
  const auto head_dim = static_cast<int64_t>(weight.size());
  const DeviceTensor<float> device(backend, x, {kNumTokens, kNumHeads, head_dim}, 7);
  const DeviceTensor<BFloat16> device_weight(backend, narrow(weight), {head_dim});
  backend.head_norm({.x = device, .weight = device_weight, .epsilon = 1e-6f});
  return device.download();
}

TEST_CASE("head_norm: agrees with the reference, a NaN stays in its head") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t head_dim = GENERATE(1, 20, 64, 128);
  CAPTURE(name, head_dim);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  RandomTensors random(12);
  std::vector<float> x = random.normal(static_cast<size_t>(kNumTokens * kNumHeads * head_dim), 3);
  x[static_cast<size_t>(2 * head_dim)] = poison<float>();
  std::fill_n(x.begin() + 7 * head_dim, head_dim, 0.0f);
  const std::vector<float> weight = random.normal(static_cast<size_t>(head_dim));
  // As rms_norm: a sum of squares has no cancellation.
  const double relative = (static_cast<double>(head_dim) / 2 + 6) * kF32Roundoff;
  CHECK(difference(run(*backend, x, weight), run(*reference, x, weight), {.relative = relative}) ==
        "");
}

TEST_CASE("head_norm: every head is a vector of its own") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  // Heads (3, 4) times 1, 2, … have the rms 5 / sqrt(2) times that, which the norm takes away.
  std::vector<float> x, expected;
  for (int64_t head = 0; head < kNumTokens * kNumHeads; ++head) {
    x.insert(x.end(), {3.0f * static_cast<float>(head + 1), 4.0f * static_cast<float>(head + 1)});
    expected.insert(expected.end(), {2 * 0.6f * std::sqrt(2.0f), -0.8f * std::sqrt(2.0f)});
  }
  CHECK(difference(run(*backend, x, {2, -1}), expected, {.relative = 1e-6}) == "");
}

}  // namespace
}  // namespace quire::test
