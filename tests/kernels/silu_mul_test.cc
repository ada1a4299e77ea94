#include "kernels/ops/silu_mul.h"

#include <catch2/catch.hpp>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

template <class Out>
std::vector<Out> run(Backend& backend, const std::vector<float>& gate_up, int64_t width) {
  const auto num_tokens = static_cast<int64_t>(gate_up.size()) / (2 * width);
  const DeviceTensor<float> in(backend, gate_up, {num_tokens, 2 * width}, 3);
  const DeviceTensor<Out> out(backend, {num_tokens, width}, 5);
  backend.silu_mul({.gate_up = in, .out = out});
  return out.download();
}

TEST_CASE("silu_mul: agrees with the reference") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t width = GENERATE(1, 13, 64);
  CAPTURE(name, width);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  RandomTensors random(10);
  const auto gate_up = random.normal(static_cast<size_t>(8 * width), 4);
  const auto actual = run<float>(*backend, gate_up, width);
  // An exponential good to 2 ulp (4u), a sum, a quotient, two products; twice that for safety.
  CHECK(difference(actual, run<float>(*reference, gate_up, width),
                   {.relative = 16 * kF32Roundoff}) == "");
  CHECK(difference(run<BFloat16>(*backend, gate_up, width), narrow(actual)) == "");
}

TEST_CASE("silu_mul: large gates neither overflow nor turn into NaN") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  // Sixteen gates with the factor 2: both a vector's lanes and a rest of single elements see them.
  std::vector<float> gate_up{
      0.0f, -0.0f, 1e-30f,          20, -20, 88, -80, 90, -85, 127, 1e30f, 100,
      3,    -3.5,  poison<float>(), 5,  -60};
  const auto width = static_cast<int64_t>(gate_up.size());
  gate_up.resize(2 * gate_up.size(), 2.0f);
  CHECK(difference(run<float>(*backend, gate_up, width), run<float>(*reference, gate_up, width),
                   {.absolute = 1e-36, .relative = 16 * kF32Roundoff}) == "");
}

}  // namespace
}  // namespace quire::test
