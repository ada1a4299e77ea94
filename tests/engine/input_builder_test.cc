#include "engine/runner/input_builder.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "engine/scheduler/sequence.h"

namespace quire {
namespace {

template <class T>
std::vector<T> values_of(const ConstTensorView& view) {
  const T* data = view.data_as<T>();
  return std::vector<T>(data, data + view.num_elements());
}

/// Tokens 100, 101, …; the blocks as given.
std::unique_ptr<Sequence> make_sequence(int32_t num_tokens, int32_t num_computed,
                                        const std::vector<int32_t>& block_ids) {
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens.resize(static_cast<size_t>(num_tokens));
  std::iota(sequence->tokens.begin(), sequence->tokens.end(), 100);
  sequence->num_prompt_tokens = num_tokens;
  sequence->num_computed_tokens = num_computed;
  for (const int32_t id : block_ids) sequence->block_table.block_ids.push_back(BlockId{id});
  return sequence;
}

StepPlan plan_of(std::vector<ScheduledSequence> entries) {
  StepPlan plan;
  plan.sequences = std::move(entries);
  return plan;
}

ModelInput build(InputBuilder& builder, const StepPlan& plan) {
  builder.build(plan);
  return builder.input(builder.bytes().data());
}

using Ints = std::vector<int32_t>;

}  // namespace

TEST_CASE("A decode and a prefill chunk become packed rows", "[input_builder]") {
  const auto decoding = make_sequence(6, 5, {7, 2});
  const auto prefilling = make_sequence(20, 4, {3, 9, 1, 5});
  InputBuilder builder(4);
  const ModelInput input =
      build(builder, plan_of({{decoding.get(), 1, true, AttentionMode::kMoba, 3},
                              {prefilling.get(), 7, false, AttentionMode::kMoba, 2}}));

  CHECK(values_of<int32_t>(input.tokens) == Ints{105, 104, 105, 106, 107, 108, 109, 110});
  CHECK(values_of<int32_t>(input.positions) == Ints{5, 4, 5, 6, 7, 8, 9, 10});
  CHECK(values_of<int64_t>(input.slots) == std::vector<int64_t>{9, 36, 37, 38, 39, 4, 5, 6});
  CHECK(values_of<int32_t>(input.batch.cu_query_lens) == Ints{0, 1, 8});
  CHECK(values_of<int32_t>(input.batch.kv_lens) == Ints{6, 11});
  // 11 tokens fill three blocks; the fourth is for later steps.
  CHECK(input.batch.block_tables.shape[1] == 3);
  CHECK(values_of<int32_t>(input.batch.block_tables) == Ints{7, 2, -1, 3, 9, 1});
  CHECK(values_of<int32_t>(input.sealing_blocks) == Ints{9});
  CHECK(values_of<int32_t>(input.logit_rows) == Ints{0});
  CHECK(values_of<int32_t>(input.top_k) == Ints{3, 2});
  CHECK(input.max_selected == 3);
  CHECK(input.num_moba_seqs == 2);
  CHECK(input.batch.max_query_len == 7);
  CHECK(input.batch.max_kv_len == 11);
}

TEST_CASE("A block seals in the step that writes its last token, once", "[input_builder]") {
  InputBuilder builder(4);
  const auto sealed_by = [&](int32_t num_computed, int32_t num_tokens) {
    const auto sequence = make_sequence(16, num_computed, {10, 11, 12, 13});
    const StepPlan plan = plan_of({{sequence.get(), num_tokens}});
    return values_of<int32_t>(build(builder, plan).sealing_blocks);
  };
  CHECK(sealed_by(0, 3) == Ints{});
  CHECK(sealed_by(0, 4) == Ints{10});
  CHECK(sealed_by(3, 1) == Ints{10});
  CHECK(sealed_by(4, 1) == Ints{});
  CHECK(sealed_by(4, 4) == Ints{11});
  CHECK(sealed_by(2, 11) == Ints{10, 11, 12});
  CHECK(sealed_by(0, 16) == Ints{10, 11, 12, 13});
}

TEST_CASE("A unit seals with its last block, wherever its first ones came from",
          "[input_builder]") {
  SelectionSchedule schedule;
  schedule.num_stages = 2;
  schedule.stages[0] = {.from = 9, .group = 2};
  schedule.stages[1] = {.from = 40, .group = 4};
  InputBuilder builder(4, schedule);
  const auto first = make_sequence(30, 8, {10, 11, 12, 13, 14, 15, 16, 17});  // 8: a prefix hit
  const auto second = make_sequence(9, 4, {20, 21, 22});
  const ModelInput input = build(builder, plan_of({{first.get(), 17}, {second.get(), 5}}));
  CHECK(values_of<int32_t>(input.sealing_units[0]) == Ints{12, 13, 14, 15, 20, 21});
  CHECK(input.sealing_units[0].shape[0] == 3);
  CHECK(input.sealing_units[0].shape[1] == 2);
  CHECK(values_of<int32_t>(input.sealing_units[1]) == Ints{10, 11, 12, 13});
  CHECK(input.sealing_units[1].shape[1] == 4);
}

TEST_CASE("There is room for the largest selection of a step's positions", "[input_builder]") {
  SelectionSchedule schedule;
  schedule.num_stages = 2;
  schedule.stages[0] = {.from = 8, .group = 2};
  schedule.stages[1] = {.from = 12, .group = 8, .top_k = 2};
  InputBuilder builder(4, schedule);
  const auto sequence = make_sequence(16, 0, {0, 1, 2, 3});
  const auto room_for = [&](int32_t num_tokens, int32_t top_k) {
    const StepPlan plan =
        plan_of({{sequence.get(), num_tokens, false, AttentionMode::kMoba, top_k}});
    return build(builder, plan).max_selected;
  };
  CHECK(room_for(8, 3) == 3);
  CHECK(room_for(9, 3) == 6);
  CHECK(room_for(12, 3) == 6);
  CHECK(room_for(13, 3) == 16);
  CHECK(room_for(13, 1) == 8);
}

TEST_CASE("Sequences with full attention carry no top_k", "[input_builder]") {
  const auto sparse = make_sequence(4, 3, {0});
  const auto dense = make_sequence(4, 3, {1});
  const ScheduledSequence moba{sparse.get(), 1, true, AttentionMode::kMoba, 5};
  const ScheduledSequence full{dense.get(), 1, true, AttentionMode::kFull, 9};
  InputBuilder builder(4);
  const ModelInput input = build(builder, plan_of({moba, full}));
  CHECK(input.num_moba_seqs == 1);
  CHECK(values_of<int32_t>(input.top_k) == Ints{5});
  CHECK(input.max_selected == 5);
  CHECK(values_of<int32_t>(input.logit_rows) == Ints{0, 1});

  CHECK_THROWS_AS(builder.build(plan_of({full, moba})), ContractError);
}

TEST_CASE("Every row names its sequence's rope set, if the model has two", "[input_builder]") {
  const auto long_one = make_sequence(20, 4, {3, 9, 1, 5});
  long_one->rope_set = 1;
  const auto short_one = make_sequence(6, 5, {7, 2});
  const StepPlan plan = plan_of({{short_one.get(), 1, true}, {long_one.get(), 3}});
  InputBuilder builder(4, {}, /*num_rope_sets=*/2);
  CHECK(values_of<int32_t>(build(builder, plan).rope_sets) == Ints{0, 1, 1, 1});

  InputBuilder of_one_set(4);
  CHECK(build(of_one_set, plan_of({{short_one.get(), 1, true}})).rope_sets.data == nullptr);
  CHECK_THROWS_AS(of_one_set.build(plan), ContractError);
}

TEST_CASE("A step larger than any before moves nothing out of place", "[input_builder]") {
  InputBuilder builder(2);
  for (const int32_t num_tokens : {2, 4000, 6}) {
    std::vector<int32_t> block_ids(static_cast<size_t>(num_tokens / 2));
    std::iota(block_ids.begin(), block_ids.end(), 50);
    const auto sequence = make_sequence(num_tokens, 0, block_ids);
    const ModelInput input = build(builder, plan_of({{sequence.get(), num_tokens}}));
    CHECK(values_of<int32_t>(input.tokens) == sequence->tokens);
    CHECK(values_of<int32_t>(input.batch.block_tables) == block_ids);
    CHECK(values_of<int32_t>(input.sealing_blocks) == block_ids);
    CHECK(input.logit_rows.num_elements() == 0);
  }
}

TEST_CASE("A plan that is none is refused before anything reads it", "[input_builder]") {
  InputBuilder builder(4);
  const auto sequence = make_sequence(10, 0, {1, 2});
  const auto refused = [&](const ScheduledSequence& entry) {
    CHECK_THROWS_AS(builder.build(plan_of({entry})), ContractError);
  };
  CHECK_THROWS_AS(builder.build(StepPlan{}), ContractError);
  refused({.sequence = nullptr, .num_tokens = 1});
  refused({.sequence = sequence.get(), .num_tokens = 0});
  refused({.sequence = sequence.get(), .num_tokens = 9});   // needs a third block
  refused({.sequence = sequence.get(), .num_tokens = 11});  // more than there are
  refused({.sequence = sequence.get(), .num_tokens = 4, .samples = true});
  refused({.sequence = sequence.get(), .num_tokens = 4, .top_k = 0});
}

}  // namespace quire
