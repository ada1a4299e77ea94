#include "kernels/ops/embedding.h"

#include <catch2/catch.hpp>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

TEST_CASE("embedding: copies rows, bf16 widened exactly") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t width = GENERATE(1, 7, 64);
  CAPTURE(name, width);
  const auto backend = make_test_backend(name);
  RandomTensors random(1);
  const auto rows = random.normal_bf16(static_cast<size_t>(11 * width));
  const std::vector<int32_t> tokens{10, 0, 3, 3, 9};
  std::vector<float> expected;
  for (const int32_t token : tokens) {
    const auto row = widen(
        std::span(rows).subspan(static_cast<size_t>(token * width), static_cast<size_t>(width)));
    expected.insert(expected.end(), row.begin(), row.end());
  }
  const DeviceTensor<BFloat16> table(*backend, rows, {11, width}, 3);
  const DeviceTensor<float> wide_table(*backend, widen(rows), {11, width}, 1);
  const DeviceTensor<int32_t> ids(*backend, tokens, {5});
  for (const ConstTensorView& source : {ConstTensorView(table), ConstTensorView(wide_table)}) {
    const DeviceTensor<float> out(*backend, {5, width}, 5);
    backend->embedding({.table = source, .tokens = ids, .out = out});
    CHECK(difference(out.download(), expected) == "");
  }
}

TEST_CASE("embedding: a token outside of the vocabulary is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int32_t token = GENERATE(-1, 4);
  CAPTURE(name, token);
  const auto backend = make_test_backend(name);
  const DeviceTensor<float> table(*backend, {4, 2}), out(*backend, {1, 2});
  const DeviceTensor<int32_t> ids(*backend, {token}, {1});
  // Contents are checked where they lie: an asynchronous backend knows when it is waited for.
  CHECK_THROWS_AS(
      (backend->embedding({.table = table, .tokens = ids, .out = out}), backend->synchronize()),
      ContractError);
  CHECK_NOTHROW(backend->synchronize());
}

}  // namespace
}  // namespace quire::test
