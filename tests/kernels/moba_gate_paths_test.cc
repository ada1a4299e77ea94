#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "kernels/backend_registry.h"
#include "kernels/bfloat16.h"
#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/instruction_paths.h"

// The gate of the cpu backend on every instruction path, behind histories that are deep enough to
// be screened.

namespace quire::test {
namespace {

constexpr int64_t kBlocks = 700;

KvShape deep_shape(BlockDigest digest) {
  KvShape shape{.num_kv_heads = 2, .head_dim = 32, .block_size = 4, .num_heads = 4};
  shape.digest = digest;
  return shape;
}

/// The last tokens of the history, enough rows to screen for, and a decode step beside them.
std::vector<Piece> pieces_of(const Sequence& sequence) {
  return {{.sequence = &sequence, .first = kBlocks * 4 - 201, .end = kBlocks * 4, .top_k = 8},
          {.sequence = &sequence, .first = kBlocks * 4 - 1, .end = kBlocks * 4, .top_k = 4}};
}

std::vector<int32_t> selected_by(const std::string& backend, const KvShape& shape,
                                 const Sequence& sequence) {
  const auto made = make_test_backend(backend);
  const HostileBatch batch(*made, shape, pieces_of(sequence), 5);
  return run_gate(*made, batch, shape, 8);
}

}  // namespace

TEST_CASE("moba_gate: every instruction path selects the same where sums are exact") {
  const auto path = GENERATE(from_range(instruction_paths()));
  const KvShape shape = deep_shape(GENERATE(from_range(kBlockDigests)));
  CAPTURE(path.name, digest_name(shape.digest));
  const Sequence sequence = integer_sequence(shape, kBlocks * 4, 3);
  const std::vector<int32_t> expected = selected_by("reference", shape, sequence);
  const ForcedPath forced(path);
  CHECK(difference(selected_by("cpu", shape, sequence), expected) == "");
}

TEST_CASE("moba_gate: the screen changes no selection, on real and on hostile numbers") {
  const bool is_hostile = GENERATE(false, true);
  const KvShape shape = deep_shape(GENERATE(from_range(kBlockDigests)));
  const auto width = static_cast<size_t>(shape.num_kv_heads * shape.head_dim);
  Sequence sequence = random_sequence(shape, kBlocks * 4, 8);
  // Trained models' keys have much in common.
  for (BFloat16& x : sequence.key) x = to_bfloat16(to_float(x) + 2.0f);
  if (is_hostile) {
    const size_t block = 4 * width;
    sequence.key[40 * block] = poison<BFloat16>();
    sequence.key[200 * block + 1] = to_bfloat16(std::numeric_limits<float>::infinity());
    sequence.key[420 * block + width - 1] = to_bfloat16(-1e30f);
    for (size_t i = 0; i < block; ++i) sequence.key[500 * block + i] = to_bfloat16(1e-39f);
    const size_t row = static_cast<size_t>(shape.head_dim), last = sequence.query.size();
    std::fill(sequence.query.end() - 100 * shape.head_dim,
              sequence.query.end() - 98 * shape.head_dim, BFloat16{});
    sequence.query[last - 50 * row] = poison<BFloat16>();
    sequence.query[last - 40 * row] = to_bfloat16(1e30f);
  }
  // The same scores, screened or not.
  std::map<std::string, std::vector<int32_t>> unscreened;
  for (const InstructionPath& path : instruction_paths()) {
    if (path.int8_screen) continue;
    const ForcedPath forced(path);
    unscreened[path.name] = selected_by("cpu", shape, sequence);
  }
  for (const InstructionPath& path : instruction_paths()) {
    if (!path.int8_screen) continue;
    CAPTURE(path.name, digest_name(shape.digest), is_hostile);
    const ForcedPath forced(path);
    std::string without = path.name;
    without.erase(without.find(", int8 screen"));
    CHECK(difference(selected_by("cpu", shape, sequence), unscreened.at(without)) == "");
  }
}

TEST_CASE("moba_gate: decode behind a deep history selects the same on any number of threads") {
  constexpr int64_t kDeepBlocks = 3000;
  const KvShape shape = deep_shape(BlockDigest::kMean);
  const Sequence sequence = random_sequence(shape, kDeepBlocks * 4, 21);
  const Piece decode{
      .sequence = &sequence, .first = kDeepBlocks * 4 - 1, .end = kDeepBlocks * 4, .top_k = 8};
  std::vector<int32_t> expected;
  for (const int num_threads : {1, 2, 4}) {
    CAPTURE(num_threads);
    const auto backend = make_backend("cpu", {.num_threads = num_threads});
    const HostileBatch batch(*backend, shape, {decode, decode, decode}, 5);
    const std::vector<int32_t> selected = run_gate(*backend, batch, shape, 8);
    if (expected.empty()) expected = selected;
    for (int again = 0; again < 200; ++again) {
      REQUIRE(difference(run_gate(*backend, batch, shape, 8), expected) == "");
    }
  }
}

}  // namespace quire::test
