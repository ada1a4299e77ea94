#include "kernels/ops/rms_norm.h"

#include <catch2/catch.hpp>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

constexpr int64_t kNumRows = 5;

struct Input {
  int64_t width;
  std::vector<float> x, delta, weight;
};

Input make_input(int64_t width) {
  RandomTensors random(6);
  return {width, random.normal(static_cast<size_t>(kNumRows * width), 3),
          random.normal(static_cast<size_t>(kNumRows * width)),
          random.normal(static_cast<size_t>(width))};
}

struct Output {
  std::vector<float> x;
  std::vector<float> out;
};

enum class Residual { kNone, kAdded };

template <class Out>
Output run(Backend& backend, const Input& input, Residual residual) {
  const int64_t width = input.width;
  const DeviceTensor<float> x(backend, input.x, {kNumRows, width}, 3);
  const DeviceTensor<float> delta(backend, input.delta, {kNumRows, width}, 1);
  const DeviceTensor<BFloat16> weight(backend, narrow(input.weight), {width});
  const DeviceTensor<Out> out(backend, {kNumRows, width}, 5);
  backend.rms_norm({.x = x,
                    .delta = residual == Residual::kAdded ? delta : ConstTensorView{},
                    .weight = weight,
                    .epsilon = 1e-5f,
                    .out = out});
  Output output{.x = x.download(), .out = {}};
  if constexpr (std::is_same_v<Out, BFloat16>) {
    output.out = widen(out.download());
  } else {
    output.out = out.download();
  }
  return output;
}

TEST_CASE("rms_norm: agrees with the reference, and the residual sum is exact") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t width = GENERATE(1, 3, 16, 67, 256, 1000);
  const auto residual = GENERATE(Residual::kNone, Residual::kAdded);
  CAPTURE(name, width, residual == Residual::kAdded);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  const Input input = make_input(width);
  const Output actual = run<float>(*backend, input, residual);
  const Output expected = run<float>(*reference, input, residual);
  CHECK(difference(actual.x, expected.x) == "");
  // A sum of squares has no cancellation: off by at most `width` roundings, halved by the root;
  // then the root, the quotient and two products.
  const double relative = (static_cast<double>(width) / 2 + 6) * kF32Roundoff;
  CHECK(difference(actual.out, expected.out, {.relative = relative}) == "");
  CHECK(difference(run<BFloat16>(*backend, input, residual).out, widen(narrow(actual.out))) == "");
}

TEST_CASE("rms_norm: a NaN row stays alone, a zero row gives zeros") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  Input input = make_input(19);
  input.x[static_cast<size_t>(2 * input.width + 4)] = poison<float>();
  std::fill_n(input.x.begin() + 3 * input.width, input.width, 0.0f);
  const Output actual = run<float>(*backend, input, Residual::kNone);
  CHECK(difference(actual.out, run<float>(*reference, input, Residual::kNone).out,
                   {.relative = 16 * kF32Roundoff}) == "");
}

TEST_CASE("rms_norm: a row does not depend on the rows beside it") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const Input input = make_input(67);
  const Output all = run<float>(*backend, input, Residual::kAdded);
  Input repeated = input;
  for (int64_t row = 1; row < kNumRows; ++row) {
    std::copy_n(input.x.begin(), input.width, repeated.x.begin() + row * input.width);
    std::copy_n(input.delta.begin(), input.width, repeated.delta.begin() + row * input.width);
  }
  const Output same = run<float>(*backend, repeated, Residual::kAdded);
  const std::span<const float> first(all.out.data(), static_cast<size_t>(input.width));
  for (size_t row = 0; row < static_cast<size_t>(kNumRows); ++row) {
    CHECK(difference(std::span(same.out).subspan(row * first.size(), first.size()), first) == "");
  }
}

}  // namespace
}  // namespace quire::test
