#include "kernels/ops/matmul.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

struct Shape {
  int64_t n, k;
};

/// `a` and `weight` as T, times each other on one backend.
template <class T>
class Product {
 public:
  Product(Backend& backend, const Shape& shape, const std::vector<T>& weight,
          WeightFormat format = WeightFormat::kOriginal)
      : backend_(backend), shape_(shape), weight_(weight) {
    // In two parts of unequal height: they must come out one below the other.
    const int64_t upper = shape.n / 3;
    const std::vector<ConstTensorView> parts{
        make_view(weight_.data(), {upper, shape.k}),
        make_view(weight_.data() + upper * shape.k, {shape.n - upper, shape.k})};
    packed_ = backend.pack_weight(std::span(parts).subspan(upper == 0 ? 1 : 0), format);
  }

  std::vector<float> times(const std::vector<T>& a) const {
    const int64_t num_rows = static_cast<int64_t>(a.size()) / shape_.k;
    const DeviceTensor<T> device_a(backend_, a, {num_rows, shape_.k});
    const DeviceTensor<float> out(backend_, {num_rows, shape_.n});
    backend_.matmul({.a = device_a, .weight = packed_.get(), .out = out});
    return out.download();
  }

  const PackedWeight& packed() const { return *packed_; }

 private:
  Backend& backend_;
  Shape shape_;
  std::vector<T> weight_;  // the reference backend keeps a view of it
  std::unique_ptr<PackedWeight> packed_;
};

/// k products, summed in any order: off by at most k roundings of sum |a||b| (2u each: libraries
/// may round products and sums separately).
template <class T>
Tolerance sum_tolerance(const Shape& shape, const std::vector<T>& a, const std::vector<T>& weight) {
  const auto value = [](const T& x) {
    if constexpr (std::is_same_v<T, BFloat16>)
      return std::abs(static_cast<double>(to_float(x)));
    else
      return std::abs(static_cast<double>(x));
  };
  return {.at = [shape, &a, &weight, value](size_t index) {
    const size_t k = static_cast<size_t>(shape.k);
    const size_t row = index / static_cast<size_t>(shape.n) * k;
    const size_t column = index % static_cast<size_t>(shape.n) * k;
    double sum = 0;
    for (size_t i = 0; i < k; ++i) sum += value(a[row + i]) * value(weight[column + i]);
    return 2 * kF32Roundoff * static_cast<double>(k) * sum;
  }};
}

/// Sums that end within a word, a vector, a panel; more words than one piece of k holds.
const std::vector<Shape> kInt8Shapes{{1, 1}, {7, 5}, {130, 66}, {33, 100}, {64, 512}, {70, 5001}};

const std::vector<Shape> kShapes{{1, 1},     {7, 5},     {48, 64},   {33, 100},
                                 {130, 300}, {512, 256}, {768, 688}, {70, 5001}};

TEST_CASE("matmul: bf16 products agree with the reference") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(kShapes));
  const int64_t num_rows = GENERATE(1, 3, 17);
  CAPTURE(name, shape.n, shape.k, num_rows);
  RandomTensors random(2);
  const auto weight = random.normal_bf16(static_cast<size_t>(shape.n * shape.k));
  const auto a = random.normal_bf16(static_cast<size_t>(num_rows * shape.k));
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  const Product<BFloat16> product(*backend, shape, weight);
  CHECK(product.packed().num_rows() == shape.n);
  CHECK(product.packed().num_columns() == shape.k);
  CHECK(difference(product.times(a), Product(*reference, shape, weight).times(a),
                   sum_tolerance(shape, a, weight)) == "");
}

TEST_CASE("matmul: f32 products agree with the reference") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(kShapes));
  CAPTURE(name, shape.n, shape.k);
  RandomTensors random(3);
  const auto weight = random.normal(static_cast<size_t>(shape.n * shape.k));
  const auto a = random.normal(static_cast<size_t>(5 * shape.k));
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  CHECK(difference(Product(*backend, shape, weight).times(a),
                   Product(*reference, shape, weight).times(a),
                   sum_tolerance(shape, a, weight)) == "");
}

/// |ab - a'b'| <= |a| |b - b'| + |b| |a - a'| + |a - a'| |b - b'|, where a' and b' are off by half
/// a step of their row's grid. Three roundings of f32 to and from the grid are a little more.
Tolerance int8_tolerance(const Shape& shape, const std::vector<BFloat16>& a,
                         const std::vector<BFloat16>& weight) {
  const auto magnitude = [](const std::vector<BFloat16>& values, size_t i) {
    return std::abs(static_cast<double>(to_float(values[i])));
  };
  return {.at = [shape, &a, &weight, magnitude](size_t index) {
    const size_t k = static_cast<size_t>(shape.k);
    const size_t row = index / static_cast<size_t>(shape.n) * k;
    const size_t column = index % static_cast<size_t>(shape.n) * k;
    double largest_a = 0, largest_w = 0, sum_a = 0, sum_w = 0, sum = 0;
    for (size_t i = 0; i < k; ++i) {
      const double x = magnitude(a, row + i), w = magnitude(weight, column + i);
      largest_a = std::max(largest_a, x), largest_w = std::max(largest_w, w);
      sum_a += x, sum_w += w, sum += x * w;
    }
    const double half_a = largest_a / 254, half_w = largest_w / 254;
    const double rounding = 2 * kF32Roundoff * static_cast<double>(k + 8) * sum;
    return sum_a * half_w + sum_w * half_a + static_cast<double>(k) * half_a * half_w + rounding;
  }};
}

/// Every row of a large product against the same row in products of other heights. This is what
/// prefix caching, chunked prefill and batching rest on.
template <class T>
void check_rows_are_invariant(Backend& backend, const Shape& shape, const std::vector<T>& weight,
                              const std::vector<T>& a,
                              WeightFormat format = WeightFormat::kOriginal) {
  const Product product(backend, shape, weight, format);
  const auto expected = product.times(a);
  const auto num_rows = a.size() / static_cast<size_t>(shape.k);
  for (const size_t height : {1u, 2u, 3u, 5u, 8u, 31u, 64u, 127u}) {
    CAPTURE(height);
    std::vector<float> pieces;
    for (size_t row = 0; row < num_rows; row += height) {
      const size_t end = std::min(row + height, num_rows);
      const auto begin = a.begin() + static_cast<std::ptrdiff_t>(row) * shape.k;
      const auto out =
          product.times({begin, begin + static_cast<std::ptrdiff_t>(end - row) * shape.k});
      pieces.insert(pieces.end(), out.begin(), out.end());
    }
    CHECK(difference(pieces, expected) == "");
  }
}

TEST_CASE("matmul: a row's bits do not depend on the number of rows") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(kShapes));
  CAPTURE(name, shape.n, shape.k);
  const auto backend = make_test_backend(name);
  const bool is_slow = name == "reference" || is_emulated(*backend);
  if (is_slow && shape.n * shape.k > 100'000) return;  // minutes
  RandomTensors random(4);
  const auto weight = random.normal(static_cast<size_t>(shape.n * shape.k));
  const auto a = random.normal(static_cast<size_t>(131 * shape.k));
  check_rows_are_invariant(*backend, shape, weight, a);
  check_rows_are_invariant(*backend, shape, narrow(weight), narrow(a));
  check_rows_are_invariant(*backend, shape, narrow(weight), narrow(a), WeightFormat::kInt8);
}

TEST_CASE("matmul: int8 products have the same bits on all backends") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(kInt8Shapes));
  const int64_t num_rows = GENERATE(1, 3, 17, 131);
  CAPTURE(name, shape.n, shape.k, num_rows);
  RandomTensors random(7);
  auto weight = random.normal_bf16(static_cast<size_t>(shape.n * shape.k));
  auto a = random.normal_bf16(static_cast<size_t>(num_rows * shape.k));
  // A row of zeros, one too small for a grid, and one whose grid is very coarse.
  std::fill_n(a.begin(), shape.k, BFloat16{});
  std::fill_n(weight.begin(), shape.k, to_bfloat16(0x1p-120f));
  if (num_rows > 1) a[static_cast<size_t>(shape.k)] = to_bfloat16(1e30f);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  const Product<BFloat16> product(*backend, shape, weight, WeightFormat::kInt8);
  CHECK(product.packed().dtype() == DType::kI8);
  CHECK(product.packed().value_bytes() == shape.n * shape.k + 4 * shape.n);
  CHECK(difference(product.times(a),
                   Product(*reference, shape, weight, WeightFormat::kInt8).times(a)) == "");
}

TEST_CASE("matmul: int8 products are off by half a step of each factor") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(kInt8Shapes));
  constexpr int64_t kNumRows = 9;
  CAPTURE(name, shape.n, shape.k);
  RandomTensors random(8);
  const auto weight = random.normal_bf16(static_cast<size_t>(shape.n * shape.k));
  const auto a = random.normal_bf16(static_cast<size_t>(kNumRows * shape.k));
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  CHECK(difference(Product(*backend, shape, weight, WeightFormat::kInt8).times(a),
                   Product(*reference, shape, weight).times(a),
                   int8_tolerance(shape, a, weight)) == "");
}

TEST_CASE("matmul: the longest int8 row of largest values does not overflow") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const Shape shape{2, kMaxInt8Columns};
  std::vector<BFloat16> weight(static_cast<size_t>(shape.n * shape.k), to_bfloat16(1.0f));
  std::fill_n(weight.begin(), shape.k, to_bfloat16(-1.0f));
  const std::vector<BFloat16> a(static_cast<size_t>(shape.k), to_bfloat16(1.0f));
  const auto backend = make_test_backend(name);
  const auto out = Product(*backend, shape, weight, WeightFormat::kInt8).times(a);
  const auto k = static_cast<float>(shape.k);
  CHECK(out[0] == Approx(-k).epsilon(1e-6));
  CHECK(out[1] == Approx(k).epsilon(1e-6));
}

TEST_CASE("matmul: NaN and infinity make an int8 row NaN, and no other") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const float bad =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity());
  CAPTURE(name, bad);
  const Shape shape{33, 64};
  RandomTensors random(9);
  auto weight = random.normal_bf16(static_cast<size_t>(shape.n * shape.k));
  auto a = random.normal_bf16(static_cast<size_t>(9 * shape.k));
  const auto backend = make_test_backend(name);
  const auto clean = Product(*backend, shape, weight, WeightFormat::kInt8).times(a);
  a[static_cast<size_t>(4 * shape.k + 3)] = to_bfloat16(bad);
  weight[static_cast<size_t>(20 * shape.k + 60)] = to_bfloat16(bad);
  const auto dirty = Product(*backend, shape, weight, WeightFormat::kInt8).times(a);
  size_t num_wrong = 0;
  for (size_t i = 0; i < clean.size(); ++i) {
    const bool is_bad =
        i / static_cast<size_t>(shape.n) == 4 || i % static_cast<size_t>(shape.n) == 20;
    num_wrong += is_bad ? !std::isnan(dirty[i]) : dirty[i] != clean[i];
  }
  CHECK(num_wrong == 0);
}

TEST_CASE("matmul: NaN and infinity stay in their row") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const Shape shape{33, 64};
  RandomTensors random(5);
  const auto weight = random.normal_bf16(static_cast<size_t>(shape.n * shape.k));
  auto a = random.normal_bf16(static_cast<size_t>(9 * shape.k));
  const auto backend = make_test_backend(name);
  const Product product(*backend, shape, weight);
  const auto clean = product.times(a);
  a[static_cast<size_t>(4 * shape.k + 3)] = poison<BFloat16>();
  const auto dirty = product.times(a);
  for (size_t i = 0; i < clean.size(); ++i) {
    if (i / static_cast<size_t>(shape.n) == 4) {
      CHECK(std::isnan(dirty[i]));
    } else if (dirty[i] != clean[i]) {
      FAIL("element " << i << ": " << dirty[i] << ", without the NaN " << clean[i]);
    }
  }
}

TEST_CASE("matmul: no rows is no work") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  CHECK(Product(*backend, {4, 8}, std::vector<float>(32, 1.0f)).times({}).empty());
}

TEST_CASE("matmul: weights of another dtype or another backend are refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const auto other = make_test_backend(name == "reference" ? "cpu" : "reference");
  const std::vector<BFloat16> values(32);
  const ConstTensorView part = make_view(values.data(), {4, 8});
  const auto own = backend->pack_weight({&part, 1}, WeightFormat::kOriginal);
  const auto foreign = other->pack_weight({&part, 1}, WeightFormat::kOriginal);
  const DeviceTensor<float> wide(*backend, std::vector<float>(16), {2, 8}), out(*backend, {2, 4});
  const DeviceTensor<BFloat16> a(*backend, std::vector<BFloat16>(16), {2, 8});
  CHECK_THROWS_AS(backend->matmul({.a = wide, .weight = own.get(), .out = out}), ContractError);
  CHECK_THROWS_AS(backend->matmul({.a = a, .weight = foreign.get(), .out = out}), ContractError);
  CHECK_THROWS_AS(backend->matmul({.a = a, .weight = nullptr, .out = out}), ContractError);
}

}  // namespace
}  // namespace quire::test
