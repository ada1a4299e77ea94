#include "kernels/ops/rope.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

std::vector<double> frequencies(int64_t head_dim) {
  std::vector<double> values;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    values.push_back(
        std::pow(10'000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  }
  return values;
}

/// What a table must hold, row by row.
struct Table {
  std::vector<float> cos, sin;

  void add(double angle, double scale) {
    cos.push_back(static_cast<float>(scale * std::cos(angle)));
    sin.push_back(static_cast<float>(scale * std::sin(angle)));
  }
};

void check_table(const DeviceTensor<float>& cos, const DeviceTensor<float>& sin,
                 const Table& expected) {
  // One step of f32: two libraries' f64 functions may fall on different sides of a rounding.
  const Tolerance one_step{.absolute = 1e-12, .relative = 2 * kF32Roundoff};
  CHECK(difference(cos.download(), expected.cos, one_step) == "");
  CHECK(difference(sin.download(), expected.sin, one_step) == "");
}

TEST_CASE("rope_table: angles are exact to the last f32 bit even at position 1M") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const std::vector<int32_t> positions{0, 1, 4095, 1'000'003, 2'000'000'000};
  const std::vector<double> inv_freq = frequencies(20);
  const double scale = 1.25;
  Table expected;
  for (const int32_t position : positions) {
    for (const double frequency : inv_freq) {
      const double angle = position * frequency;
      expected.add(angle, scale);
    }
  }
  const DeviceTensor<int32_t> device_positions(*backend, positions, {5});
  const DeviceTensor<double> device_frequencies(*backend, inv_freq, {1, 10});
  const DeviceTensor<float> cos(*backend, {5, 10}, 3), sin(*backend, {5, 10}, 1);
  backend->rope_table({.positions = device_positions,
                       .inv_freq = device_frequencies,
                       .scale = scale,
                       .cos = cos,
                       .sin = sin});
  check_table(cos, sin, expected);
}

TEST_CASE("rope_table: every token has the frequencies of its set") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  // More pairs than a block of threads has on a GPU; sets side by side in one batch, and a poisoned
  // one that no token names.
  constexpr int64_t kPairs = 131;
  std::vector<double> inv_freq;
  for (const double factor : {1.0, std::nan(""), 3.5}) {
    for (const double frequency : frequencies(2 * kPairs)) inv_freq.push_back(frequency / factor);
  }
  std::vector<int32_t> positions, sets;
  for (int32_t t = 0; t < 37; ++t) {
    positions.push_back(t % 5 == 0 ? 1'000'003 + t : t);
    sets.push_back(t % 3 == 0 ? 2 : 0);
  }
  Table expected;
  for (size_t t = 0; t < sets.size(); ++t) {
    for (size_t i = 0; i < kPairs; ++i) {
      const double angle = positions[t] * inv_freq[static_cast<size_t>(sets[t]) * kPairs + i];
      expected.add(angle, 0.75);
    }
  }
  const DeviceTensor<int32_t> device_positions(*backend, positions, {37});
  const DeviceTensor<int32_t> device_sets(*backend, sets, {37});
  const DeviceTensor<double> device_frequencies(*backend, inv_freq, {3, kPairs});
  const DeviceTensor<float> cos(*backend, {37, kPairs}, 2), sin(*backend, {37, kPairs}, 5);
  backend->rope_table({.positions = device_positions,
                       .inv_freq = device_frequencies,
                       .sets = device_sets,
                       .scale = 0.75,
                       .cos = cos,
                       .sin = sin});
  check_table(cos, sin, expected);
}

TEST_CASE("rope_table: a set that there is not is refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int32_t set = GENERATE(-1, 2, std::numeric_limits<int32_t>::max());
  CAPTURE(name, set);
  const auto backend = make_test_backend(name);
  const DeviceTensor<int32_t> positions(*backend, {5, 6}, {2}), sets(*backend, {1, set}, {2});
  const DeviceTensor<double> inv_freq(*backend, {1.0, 0.5}, {2, 1});
  const DeviceTensor<float> cos(*backend, {2, 1}), sin(*backend, {2, 1});
  // Contents are checked where they lie: an asynchronous backend knows when it is waited for.
  CHECK_THROWS_AS(
      (backend->rope_table(
           {.positions = positions, .inv_freq = inv_freq, .sets = sets, .cos = cos, .sin = sin}),
       backend->synchronize()),
      ContractError);
  CHECK_NOTHROW(backend->synchronize());
}

struct Rotation {
  int64_t num_tokens = 3, num_heads = 2, head_dim = 20, num_pairs = 10;
  std::vector<float> x, cos, sin;
};

Rotation make_rotation(int64_t head_dim, int64_t num_pairs) {
  RandomTensors random(8);
  Rotation rotation;
  rotation.head_dim = head_dim;
  rotation.num_pairs = num_pairs;
  rotation.x = random.normal(static_cast<size_t>(6 * head_dim));
  for (const double angle : random.normal(static_cast<size_t>(3 * num_pairs), 3)) {
    rotation.cos.push_back(static_cast<float>(std::cos(angle)));
    rotation.sin.push_back(static_cast<float>(std::sin(angle)));
  }
  return rotation;
}

template <class Out>
std::vector<Out> rotate(Backend& backend, const Rotation& r) {
  const DeviceTensor<float> x(backend, r.x, {r.num_tokens, r.num_heads, r.head_dim}, 7);
  const DeviceTensor<float> cos(backend, r.cos, {r.num_tokens, r.num_pairs}, 1);
  const DeviceTensor<float> sin(backend, r.sin, {r.num_tokens, r.num_pairs}, 3);
  const DeviceTensor<Out> out(backend, {r.num_tokens, r.num_heads, r.head_dim}, 5);
  backend.rope({.x = x, .cos = cos, .sin = sin, .out = out});
  return out.download();
}

TEST_CASE("rope: half-split rotation, as the reference does it") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const int64_t head_dim = GENERATE(2, 20, 64);
  CAPTURE(name, head_dim);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  const int64_t num_pairs = GENERATE_COPY(head_dim / 2, head_dim / 4, int64_t{0});
  const Rotation r = make_rotation(head_dim, num_pairs);
  const auto actual = rotate<float>(*backend, r);
  // Two products and a difference, fused or not: three roundings of at most |x| * sqrt(2), x < 6.
  CHECK(difference(actual, rotate<float>(*reference, r), {.absolute = 3 * 12 * kF32Roundoff}) ==
        "");
  CHECK(difference(rotate<BFloat16>(*backend, r), narrow(actual)) == "");
}

TEST_CASE("rope: a quarter turn swaps the halves") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const Rotation r{.num_tokens = 1,
                   .num_heads = 1,
                   .head_dim = 4,
                   .num_pairs = 2,
                   .x = {1, 2, 3, 4},
                   .cos = {0, 0},
                   .sin = {1, 1}};
  CHECK(difference(rotate<float>(*backend, r), std::vector<float>{-3, -4, 1, 2}) == "");
}

TEST_CASE("rope: what does not rotate is left as it is") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  Rotation r{.num_tokens = 1,
             .num_heads = 2,
             .head_dim = 5,
             .num_pairs = 1,
             .x = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
             .cos = {0},
             .sin = {1}};
  CHECK(difference(rotate<float>(*backend, r),
                   std::vector<float>{-2, 1, 3, 4, 5, -7, 6, 8, 9, 10}) == "");
  r.num_pairs = 0;
  r.cos.clear();
  r.sin.clear();
  CHECK(difference(rotate<float>(*backend, r), r.x) == "");
}

}  // namespace
}  // namespace quire::test
