// What stands for a block in the gate may be something else than its mean: the defined numbers, the
// defined selection, ties included, and the same bits in any chunk, batch and place. Expected
// values come from f64 formulas that know nothing of expanded queries.

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "tests/kernels/attention_case.h"
#include "tests/kernels/gate_definition.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

constexpr int64_t kMaxTopK = 4;
constexpr std::array kBoundDigests = {BlockDigest::kBounds, BlockDigest::kCuboidMean};

std::vector<KvShape> digest_shapes() {
  std::vector<KvShape> shapes;
  for (const BlockDigest digest : kBoundDigests) {
    for (KvShape shape : attention_shapes()) {
      shape.digest = digest;
      shapes.push_back(shape);
    }
  }
  return shapes;
}

/// Without the largest blocks, for tests that take a sequence apart token by token.
std::vector<KvShape> small_digest_shapes() {
  std::vector<KvShape> shapes = digest_shapes();
  std::erase_if(shapes, [](const KvShape& shape) { return shape.block_size > 32; });
  return shapes;
}

/// What the two blocks of a sequence are sealed as, [2, num_kv_heads, digest_dim]; fails where a
/// block that is not sealed was written to.
std::vector<float> sealed(const std::string& backend_name, const KvShape& shape,
                          const Sequence& sequence) {
  const auto backend = make_test_backend(backend_name);
  const HostileBatch batch(*backend, shape, {whole(sequence, 1)}, 3);
  const int64_t num_blocks = batch.kv().num_blocks();
  const int64_t width = shape.num_kv_heads * shape.digest_dim();
  const DeviceTensor<BFloat16> digests(*backend,
                                       {num_blocks, shape.num_kv_heads, shape.digest_dim()});
  const DeviceTensor<int32_t> ids(*backend, {batch.block_id(0, 1), batch.block_id(0, 0)}, {2});
  PagedKvView kv = batch.kv();
  kv.centroids = digests;
  backend->seal_blocks({.kv = kv, .block_ids = ids});
  const std::vector<BFloat16> all = digests.download();
  std::vector<BFloat16> own;
  for (const int64_t block : {0, 1}) {
    const auto first = all.begin() + batch.block_id(0, block) * width;
    own.insert(own.end(), first, first + width);
  }
  for (int64_t id = 0; id < num_blocks; ++id) {
    if (id == batch.block_id(0, 0) || id == batch.block_id(0, 1)) continue;
    for (int64_t i = 0; i < width; ++i) {
      REQUIRE(DeviceTensor<BFloat16>::is_poison(all[static_cast<size_t>(id * width + i)]));
    }
  }
  return widen(own);
}

/// Keys of 24 binades, with zeros of both signs and, in components of their own, infinities and a
/// NaN that is neither a block's first key nor its last.
Sequence hostile_keys(const KvShape& shape, int64_t num_tokens) {
  Sequence sequence = random_sequence(shape, num_tokens, 61);
  const auto exponents = RandomTensors(62).integers(sequence.key.size(), -12, 12);
  for (size_t i = 0; i < sequence.key.size(); ++i) {
    sequence.key[i] = to_bfloat16(std::ldexp(to_float(sequence.key[i]), exponents[i]));
    if (i % 11 == 0) sequence.key[i] = to_bfloat16(i % 2 == 0 ? 0.0f : -0.0f);
  }
  if (shape.block_size < 4) return sequence;
  const auto width = static_cast<size_t>(shape.num_kv_heads * shape.head_dim);
  const auto block = static_cast<size_t>(shape.block_size) * width;
  sequence.key[width + 1] = poison<BFloat16>();
  sequence.key[2 * width + 3] = to_bfloat16(INFINITY);
  sequence.key[block + width + 2] = to_bfloat16(-INFINITY);
  return sequence;
}

TEST_CASE("digest: a sealed block holds what double precision makes of its keys") {
  const BlockDigest digest = GENERATE(from_range(kBoundDigests));
  // 300 has no exact inverse and ends in a run of 44.
  const int64_t block_size = GENERATE(1, 4, 128, 300);
  const int64_t head_dim = GENERATE(5, 64);
  const DType dtype = GENERATE(DType::kBF16, DType::kI8);
  CAPTURE(digest_name(digest), block_size, head_dim, dtype_name(dtype));
  const KvShape shape{.num_kv_heads = 2,
                      .head_dim = head_dim,
                      .block_size = block_size,
                      .num_heads = 2,
                      .dtype = dtype,
                      .digest = digest};
  const Sequence sequence = hostile_keys(shape, 2 * block_size + block_size / 2);
  KvShape exact = shape;
  exact.digest = BlockDigest::kBounds;
  std::vector<float> expected, bounds;
  for (const int64_t block : {0, 1}) {
    const BFloat16* keys = sequence.key.data() + block * block_size * 2 * head_dim;
    for (const float x : widen(digest_of(keys, shape))) expected.push_back(x);
    for (const float x : widen(digest_of(keys, exact))) bounds.push_back(x);
  }
  // The smallest and the largest are exact. A cuboid is made in f32 within the bounds: rounded sums
  // of block_size distances, then the neighbour in bf16.
  Tolerance tolerance;
  if (digest == BlockDigest::kCuboidMean) {
    tolerance.relative = kBF16Step;
    tolerance.at = [&](size_t i) {
      const size_t d = static_cast<size_t>(head_dim), first = i / (2 * d) * 2 * d + i % d;
      const double size = std::abs(static_cast<double>(bounds[first])) +
                          std::abs(static_cast<double>(bounds[first + d]));
      return std::isfinite(size) ? static_cast<double>(block_size + 4) * kF32Roundoff * size : 0.0;
    };
  }
  const std::vector<float> reference = sealed("reference", shape, sequence);
  CHECK(difference(reference, expected, tolerance) == "");
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    // The bits are part of the contract.
    CHECK(difference(sealed(name, shape, sequence), reference) == "");
  }
}

TEST_CASE("digest: exactly the defined selection where sums are exact, ties included") {
  const auto shape = GENERATE(from_range(digest_shapes()));
  CAPTURE(digest_name(shape.digest), shape.block_size, shape.head_dim, dtype_name(shape.dtype));
  const int64_t b = shape.block_size;
  Sequence first = integer_sequence(shape, 9 * b + 1, 11);
  const Sequence second = integer_sequence(shape, 6 * b, 12);
  // One block that loses to all numbers, wherever its keys' NaN is.
  first.key[static_cast<size_t>((2 * b + 1) * shape.num_kv_heads * shape.head_dim + 1)] =
      poison<BFloat16>();
  const std::vector<Piece> pieces{
      {.sequence = &first, .first = 3 * b - 1, .end = 9 * b + 1, .top_k = 3},
      {.sequence = &second, .first = 6 * b - 1, .end = 6 * b, .top_k = 4},
      {.sequence = &second, .first = 5 * b, .end = 5 * b + 1, .top_k = 1},
      {.sequence = &second, .first = 3 * b - 1, .end = 5 * b + 1, .top_k = 2},
  };
  const std::vector<int32_t> expected = expected_selection(shape, pieces, kMaxTopK);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    const HostileBatch batch(*backend, shape, pieces, 7);
    CHECK(difference(run_gate(*backend, batch, shape, kMaxTopK), expected) == "");
  }
}

TEST_CASE("digest: on real numbers a selection differs only between scores that are close") {
  const auto shape = GENERATE(from_range(digest_shapes()));
  CAPTURE(digest_name(shape.digest), shape.block_size, shape.head_dim, dtype_name(shape.dtype));
  const Sequence sequence = random_sequence(shape, 12 * shape.block_size + 1, 21);
  const std::vector<Piece> pieces{{&sequence, 8 * shape.block_size, sequence.num_tokens, 4}};
  const std::vector<int32_t> expected = expected_selection(shape, pieces, kMaxTopK);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    const HostileBatch batch(*backend, shape, pieces, 5);
    const auto actual = run_gate(*backend, batch, shape, kMaxTopK);
    REQUIRE(actual.size() == expected.size());
    size_t num_mismatches = 0;
    for (size_t begin = 0; begin < actual.size(); begin += kMaxTopK) {
      const auto slots = std::span(actual).subspan(begin, kMaxTopK);
      if (std::ranges::equal(slots, std::span(expected).subspan(begin, kMaxTopK))) continue;
      ++num_mismatches;
      const auto row = static_cast<int64_t>(begin) / kMaxTopK;
      const auto scores = gate_scores(shape, sequence, pieces[0].first + row / shape.num_heads,
                                      row % shape.num_heads);
      double chosen = 0, wanted = 0;
      for (size_t slot = begin; slot + 1 < begin + kMaxTopK; ++slot) {
        chosen += scores.at(static_cast<size_t>(actual[slot]));
        wanted += scores.at(static_cast<size_t>(expected[slot]));
      }
      // As for the mean, of twice the terms, |digest| <= 4 in each.
      const auto d = 2 * static_cast<double>(shape.head_dim);
      CHECK(wanted - chosen <= 6 * d * kF32Roundoff * 4 * d);
    }
    CHECK(num_mismatches <= actual.size() / kMaxTopK / 100);
  }
}

TEST_CASE("digest: any chunk, any batch and any place give the bits of the whole prefill") {
  const auto shape = GENERATE(from_range(small_digest_shapes()));
  const int64_t chunk_size = GENERATE(1, 57);
  CAPTURE(digest_name(shape.digest), shape.block_size, chunk_size);
  const Sequence sequence = random_sequence(shape, 4 * shape.block_size + 3, 51);
  const Sequence other = random_sequence(shape, 5 * shape.block_size, 52);
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    const MobaResult all = run_moba(*backend, shape, {whole(sequence, 3)}, 1, kMaxTopK);
    const Piece companion{&other, 4 * shape.block_size, other.num_tokens, 2};
    for (int64_t first = 0; first < sequence.num_tokens; first += chunk_size) {
      const int64_t end = std::min(first + chunk_size, sequence.num_tokens);
      const MobaResult both = run_moba(*backend, shape, {{&sequence, first, end, 3}, companion},
                                       static_cast<uint32_t>(2 + first), kMaxTopK);
      const MobaResult actual = rows_of(both, shape, 0, end - first, kMaxTopK);
      const MobaResult expected = rows_of(all, shape, first, end, kMaxTopK);
      REQUIRE(difference(actual.selected, expected.selected) == "");
      REQUIRE(difference(actual.out, expected.out) == "");
    }
  }
}

TEST_CASE("digest: a cache of another width is refused, and selection units too") {
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    KvShape shape;
    shape.digest = BlockDigest::kBounds;
    const Sequence sequence = random_sequence(shape, 9, 71);
    const HostileBatch batch(*backend, shape, {whole(sequence, 2)}, 1);
    const DeviceTensor<int32_t> ids(*backend, {batch.block_id(0, 0)}, {1});
    PagedKvView of_means = batch.kv(), with_units = batch.kv();
    of_means.digest = BlockDigest::kMean;
    CHECK_THROWS_WITH(backend->seal_blocks({.kv = of_means, .block_ids = ids}),
                      Contains("kv.centroids"));
    with_units.unit_centroids =
        make_view(static_cast<BFloat16*>(with_units.centroids.data),
                  {1, with_units.num_blocks(), shape.num_kv_heads, shape.head_dim});
    CHECK_THROWS_WITH(backend->seal_blocks({.kv = with_units, .block_ids = ids}),
                      Contains("selection units with digest mean only"));
  }
}

}  // namespace
}  // namespace quire::test
