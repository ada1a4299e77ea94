// Progressive block size: later tokens select units of several blocks. A stage is MoBA with a
// larger block, so it is held to what MoBA is held to: the defined selection, ties included, and
// the same bits in any chunk, batch and place.

#include <algorithm>
#include <catch2/catch.hpp>
#include <utility>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"

namespace quire::test {
namespace {

constexpr int32_t kTopK = 3;
constexpr int64_t kMaxSelected = 13;  // three units of four blocks, and an entry to spare

/// Units of two blocks from inside a block on, of four from inside a unit on.
SelectionSchedule two_stages(int64_t block_size, int32_t last_top_k = 0) {
  SelectionSchedule schedule;
  schedule.num_stages = 2;
  schedule.stages[0] = {.from = static_cast<int32_t>(5 * block_size + 1), .group = 2};
  schedule.stages[1] = {
      .from = static_cast<int32_t>(11 * block_size - 1), .group = 4, .top_k = last_top_k};
  return schedule;
}

std::vector<KvShape> staged_shapes() {
  std::vector<KvShape> shapes = attention_shapes();
  std::erase_if(shapes, [](const KvShape& shape) { return shape.block_size > 32; });
  for (KvShape& shape : shapes) shape.schedule = two_stages(shape.block_size);
  return shapes;
}

/// The definition once more, for one (token, head), from the keys themselves.
std::vector<int32_t> select(const KvShape& shape, const Sequence& sequence, int32_t top_k,
                            int64_t position, int64_t head) {
  int64_t group = 1, k = top_k;
  for (int32_t s = 0; s < shape.schedule.num_stages; ++s) {
    const SelectionStage& stage = shape.schedule.stages[static_cast<size_t>(s)];
    if (stage.from > position) break;
    group = stage.group;
    k = stage.top_k > 0 ? std::min(stage.top_k, top_k) : top_k;
  }
  const int64_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  const int64_t own = position / (group * shape.block_size);
  std::vector<std::pair<double, int64_t>> ranked;
  for (int64_t unit = 0; unit < own; ++unit) {
    const BFloat16* keys = sequence.key.data() + unit * group * shape.block_size * width;
    const auto centroid =
        group == 1 ? centroid_of(keys, shape) : unit_centroid_of(keys, group, shape);
    double score = 0;
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      const auto q = static_cast<size_t>((position * shape.num_heads + head) * shape.head_dim + d);
      const auto c = static_cast<size_t>(kv_head * shape.head_dim + d);
      score += static_cast<double>(to_float(sequence.query[q])) *
               static_cast<double>(to_float(centroid[c]));
    }
    ranked.emplace_back(score, unit);
  }
  std::ranges::sort(ranked, std::greater<>());
  ranked.resize(std::min(ranked.size(), static_cast<size_t>(k - 1)));
  ranked.emplace_back(0, own);
  std::vector<int32_t> blocks;
  for (const auto& [score, unit] : ranked) {
    for (int64_t block = unit * group; block < (unit + 1) * group; ++block) {
      if (block <= position / shape.block_size) blocks.push_back(static_cast<int32_t>(block));
    }
  }
  std::ranges::sort(blocks);
  blocks.resize(static_cast<size_t>(kMaxSelected), -1);
  return blocks;
}

TEST_CASE("schedule: exactly the defined selection where sums are exact, ties included") {
  const auto name = GENERATE(from_range(kernel_backends()));
  KvShape shape = GENERATE(from_range(staged_shapes()));
  const int32_t last_top_k = GENERATE(0, 2, 9);
  CAPTURE(name, shape.block_size, last_top_k);
  shape.schedule = two_stages(shape.block_size, last_top_k);
  const auto backend = make_test_backend(name);
  const int64_t b = shape.block_size;
  const Sequence first = integer_sequence(shape, 19 * b + 1, 91);
  const Sequence second = integer_sequence(shape, 16 * b, 92);
  // Everything; a chunk over both borders; decodes just before and behind each border, at the end
  // of a unit and at its beginning; a sequence that is short of the first stage.
  const std::vector<Piece> pieces{{&first, 0, 19 * b + 1, kTopK},
                                  {&second, 4 * b + 1, 13 * b, 2},
                                  {&first, 5 * b, 5 * b + 1, kTopK},
                                  {&first, 5 * b + 1, 5 * b + 2, kTopK},
                                  {&second, 11 * b - 2, 11 * b - 1, kTopK},
                                  {&second, 11 * b - 1, 11 * b, kTopK},
                                  {&second, 16 * b - 1, 16 * b, kTopK},
                                  {&first, 16 * b, 16 * b + 1, 1},
                                  {&second, 0, 3 * b, kTopK}};
  const HostileBatch batch(*backend, shape, pieces, 7);
  std::vector<int32_t> expected;
  for (const Piece& piece : pieces) {
    for (int64_t position = piece.first; position < piece.end; ++position) {
      for (int64_t head = 0; head < shape.num_heads; ++head) {
        const auto row = select(shape, *piece.sequence, piece.top_k, position, head);
        expected.insert(expected.end(), row.begin(), row.end());
      }
    }
  }
  CHECK(difference(run_gate(*backend, batch, shape, kMaxSelected), expected) == "");
}

TEST_CASE("schedule: any chunking, any batch and any place give the bits of the whole prefill") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(staged_shapes()));
  const auto backend = make_test_backend(name);
  const Sequence sequence = random_sequence(shape, 14 * shape.block_size + 3, 93);
  const Sequence other = random_sequence(shape, 13 * shape.block_size, 94);
  const MobaResult expected = run_moba(*backend, shape, {whole(sequence, kTopK)}, 1, kMaxSelected);
  // Chunks of 1 are decode; 7 and 57 straddle blocks, units and borders of stages.
  const int64_t chunk_size = GENERATE(1, 7, 57);
  CAPTURE(name, shape.block_size, chunk_size);
  for (const auto& [first, end] : chunks_of(*backend, sequence.num_tokens, chunk_size)) {
    CAPTURE(first, end);
    const Piece before{&other, 12 * shape.block_size, 13 * shape.block_size, 2};
    const MobaResult both = run_moba(*backend, shape, {before, {&sequence, first, end, kTopK}},
                                     static_cast<uint32_t>(100 + first), kMaxSelected);
    const int64_t skipped = before.num_tokens();
    const MobaResult chunk = rows_of(both, shape, skipped, skipped + end - first, kMaxSelected);
    const MobaResult wanted = rows_of(expected, shape, first, end, kMaxSelected);
    CHECK(difference(chunk.selected, wanted.selected) == "");
    CHECK(difference(chunk.out, wanted.out) == "");
  }
}

TEST_CASE("schedule: units from the start on are MoBA with a larger block") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape large{.num_kv_heads = 2, .head_dim = 16, .block_size = 32, .num_heads = 4};
  KvShape staged = large;
  staged.block_size = 8;
  staged.schedule.num_stages = 1;
  staged.schedule.stages[0] = {.from = 1, .group = 4};
  // Blocks of integers: a mean of means is the mean, to the last bit.
  const Sequence sequence = integer_sequence(large, 9 * 32 + 5, 95);
  const MobaResult units = run_moba(*backend, staged, {whole(sequence, kTopK)}, 1, kMaxSelected);
  const MobaResult blocks = run_moba(*backend, large, {whole(sequence, kTopK)}, 2, kTopK);
  std::vector<int32_t> as_units;
  for (size_t i = 0; i < units.selected.size(); i += kMaxSelected) {
    std::vector<int32_t> row;
    for (size_t slot = i; slot < i + kMaxSelected && units.selected[slot] >= 0; ++slot) {
      const int32_t unit = units.selected[slot] / 4;
      if (row.empty() || row.back() != unit) row.push_back(unit);
    }
    row.resize(kTopK, -1);
    as_units.insert(as_units.end(), row.begin(), row.end());
  }
  CHECK(difference(as_units, blocks.selected) == "");
  // The same keys, merged in more and smaller parts.
  const std::vector<Piece> pieces{whole(sequence, kTopK)};
  CHECK(difference(units.out, blocks.out, {.absolute = 2 * attention_tolerance(large, pieces)}) ==
        "");
}

TEST_CASE("schedule: up to top_k units are full attention") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const auto shape = GENERATE(from_range(staged_shapes()));
  CAPTURE(name, shape.block_size);
  const auto backend = make_test_backend(name);
  // Past the last border three units of four blocks hold all twelve.
  const Sequence sequence = random_sequence(shape, 12 * shape.block_size, 96);
  const std::vector<Piece> pieces{{&sequence, 11 * shape.block_size - 1, 12 * shape.block_size, 3}};
  const HostileBatch batch(*backend, shape, pieces, 1);
  const MobaResult moba = run_moba(*backend, shape, pieces, 1, kMaxSelected);
  const double tolerance = name == "reference" ? 0 : 2 * attention_tolerance(shape, pieces);
  CHECK(difference(moba.out, run_full_attention(*backend, batch, shape), {.absolute = tolerance}) ==
        "");
}

TEST_CASE("schedule: a selection that does not fit, or stages without centroids, are refused") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  KvShape shape;
  shape.schedule = two_stages(shape.block_size);
  const Sequence sequence = random_sequence(shape, 12 * shape.block_size, 97);
  const HostileBatch batch(*backend, shape, {whole(sequence, kTopK)}, 1);
  CHECK_NOTHROW(run_gate(*backend, batch, shape, 12));
  CHECK_THROWS_AS(run_gate(*backend, batch, shape, 11), ContractError);
  shape.schedule.num_stages = 3;
  shape.schedule.stages[2] = {.from = 1000, .group = 8};
  CHECK_THROWS_AS(run_gate(*backend, batch, shape, 100), ContractError);
}

}  // namespace
}  // namespace quire::test
