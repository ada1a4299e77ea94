#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "tests/engine/scheduler_rig.h"

namespace quire {

TEST_CASE("Decodes come first, prefills share what is left", "[scheduler]") {
  SchedulerRig rig;
  rig.add(1, 6);
  CHECK(rig.step() == Plan{{1, 6}});
  rig.add(2, 40);
  rig.add(3, 3);
  CHECK(rig.step() == Plan{{1, 1}, {3, 3}, {2, 12}});
  CHECK(rig.step() == Plan{{1, 1}, {3, 1}, {2, 14}});
}

TEST_CASE("A chunk samples exactly when it reaches the newest token", "[scheduler]") {
  SchedulerRig rig;
  rig.add(1, 20, 2);
  rig.plan();
  CHECK_FALSE(rig.entry(1).samples);
  rig.finish();
  rig.plan();
  CHECK(rig.entry(1).samples);
  CHECK(rig.entry(1).num_tokens == 4);
}

TEST_CASE("A short prompt is read beside a long one in a few steps", "[scheduler]") {
  EngineConfig config = small_config();
  config.max_model_len = 4000;
  config.num_blocks = 1000;
  SchedulerRig rig(config);
  rig.add(1, 3000);
  rig.step();
  rig.add(2, 12, 1);
  CHECK(rig.run_until_finished(2) == 2);
}

TEST_CASE("A long prompt gets its share beside short ones that never end", "[scheduler]") {
  EngineConfig config = small_config();
  config.max_model_len = 200;
  config.num_blocks = 200;
  SchedulerRig rig(config);
  rig.add(1, 160, 1);
  uint64_t next_id = 2;
  int num_steps = 0;
  while (!rig.finished.contains(SequenceId{1}) && num_steps < 500) {
    while (rig.scheduler.num_waiting() + rig.scheduler.num_running() < 8) rig.add(next_id++, 9, 1);
    rig.step();
    ++num_steps;
  }
  // At least one of 8 shares of 16 tokens in every step.
  CHECK(num_steps <= 160 / 2 + 1);
}

TEST_CASE(
    "Long prefills are bounded, short prompts and cached ones are let past, then it is their "
    "turn",
    "[scheduler]") {
  EngineConfig config = small_config();
  config.max_model_len = 100;
  config.num_blocks = 400;
  SchedulerRig rig(config);
  rig.add(sequence_of(90, ramp(60), 1));
  rig.run_until_finished(90);
  for (uint64_t id = 1; id <= Scheduler::kMaxLongPrefills + 1; ++id) rig.add(id, 80, 1);
  rig.add(50, 3, 1);
  rig.add(sequence_of(51, ramp(62), 1));  // 60 of them are in the cache
  const Plan planned = rig.step();
  const auto is_planned = [&](uint64_t id) {
    return std::ranges::any_of(planned, [id](const Planned& p) { return p.id == id; });
  };
  CHECK(is_planned(Scheduler::kMaxLongPrefills));
  CHECK_FALSE(is_planned(Scheduler::kMaxLongPrefills + 1));
  CHECK(is_planned(50));
  CHECK(is_planned(51));
  // A stream of short ones does not keep it out for ever.
  uint64_t next_id = 100;
  for (int i = 0; i < 200 && !rig.finished.contains(SequenceId{5}); ++i) {
    while (rig.scheduler.num_waiting() < 3) rig.add(next_id++, 3, 1);
    rig.step();
  }
  CHECK(rig.finished.contains(SequenceId{5}));
}

TEST_CASE("A higher class is read first and is not held up by long prefills of a lower one",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 400;
  SchedulerRig rig(config);
  for (uint64_t id = 1; id <= Scheduler::kMaxLongPrefills; ++id) {
    rig.add(id, 40).request.priority = 0;
  }
  rig.step();
  auto urgent = sequence_of(9, ramp(40, 9000), 1);
  urgent->request.priority = -1;
  rig.add(std::move(urgent));
  CHECK(rig.step() == Plan{{9, 16}});
  CHECK(rig.step() == Plan{{9, 16}});
  CHECK(rig.step().front() == Planned{9, 8});
}

TEST_CASE("Waiting sequences are admitted by priority, then arrival, and counted", "[scheduler]") {
  EngineConfig config = small_config();
  config.max_num_seqs = 1;
  SchedulerRig rig(config);
  for (const auto& [id, priority] : std::vector<std::pair<uint64_t, int>>{{1, 5}, {2, 5}, {3, 1}}) {
    auto sequence = sequence_of(id, ramp(4, static_cast<TokenId>(id * 100)), 1);
    sequence->request.priority = priority;
    rig.add(std::move(sequence));
  }
  CHECK(rig.scheduler.queue_position(SequenceId{3}) == 0);
  CHECK(rig.scheduler.queue_position(SequenceId{2}) == 2);
  CHECK_FALSE(rig.scheduler.queue_position(SequenceId{7}).has_value());
  CHECK(rig.plan() == Plan{{3, 4}});
  CHECK_FALSE(rig.scheduler.queue_position(SequenceId{3}).has_value());
  rig.finish();
  CHECK(rig.step() == Plan{{1, 4}});
  CHECK(rig.step() == Plan{{2, 4}});
}

TEST_CASE("The first sequence that does not fit is not overtaken", "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 16;
  SchedulerRig rig(config);
  rig.add(1, 40, 2);  // 10 or 11 blocks
  rig.add(2, 40, 2);
  rig.add(3, 4, 2);
  rig.step();
  CHECK(rig.scheduler.num_running() == 1);
  CHECK(rig.scheduler.num_waiting() == 2);
  rig.run_until_finished(1);
  CHECK(rig.plan().size() == 2);  // 2 and 3
}

TEST_CASE("Each phase runs with its own attention, MoBA before full, split at the prompt's end",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.moba.decode = AttentionMode::kFull;
  config.max_num_seqs = 4;
  SchedulerRig rig(config);
  rig.add(1, 6, 20);
  rig.step();
  rig.step();
  rig.add(2, 5, 20).request.attention = {};
  auto chosen = sequence_of(3, ramp(3, 3000), 20);
  chosen->request.attention = {.mode = AttentionMode::kMoba, .top_k = 7};
  rig.add(std::move(chosen));
  auto full = sequence_of(4, ramp(4, 4000), 20);
  full->request.attention.mode = AttentionMode::kFull;
  rig.add(std::move(full));
  CHECK(rig.plan() == Plan{{3, 3}, {2, 5}, {1, 1}, {4, 4}});
  CHECK(rig.entry(3).attention == AttentionMode::kMoba);
  CHECK(rig.entry(3).top_k == 7);
  CHECK(rig.entry(2).top_k == 2);
  CHECK(rig.entry(1).attention == AttentionMode::kFull);
  CHECK(rig.entry(4).attention == AttentionMode::kFull);
  rig.finish();
  CHECK(rig.plan() == Plan{{3, 1}, {1, 1}, {2, 1}, {4, 1}});  // a chosen mode is of both phases
  rig.finish();
}

TEST_CASE("Completion tokens select as many blocks as decode has, unless the request says how many",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.moba.decode_top_k = 5;
  SchedulerRig rig(config);
  rig.add(1, 6, 20);
  auto chosen = sequence_of(2, ramp(3, 3000), 20);
  chosen->request.attention = {.mode = std::nullopt, .top_k = 7};
  rig.add(std::move(chosen));
  rig.plan();
  CHECK(rig.entry(1).top_k == config.moba.top_k);
  CHECK(rig.entry(2).top_k == 7);
  rig.finish();
  for (int step = 0; step < 4; ++step) rig.step();  // both prompts are computed
  REQUIRE(rig.plan() == Plan{{1, 1}, {2, 1}});
  CHECK(rig.entry(1).top_k == 5);
  CHECK(rig.entry(2).top_k == 7);
}

TEST_CASE("Without a choice of its own a request gets the server's default", "[scheduler]") {
  EngineConfig config = small_config();
  config.default_attention = AttentionMode::kFull;
  SchedulerRig rig(config);
  rig.add(1, 6);
  rig.plan();
  CHECK(rig.entry(1).attention == AttentionMode::kFull);
}

TEST_CASE("A plan is answered with exactly the tokens it asked for", "[scheduler]") {
  SchedulerRig rig;
  rig.add(1, 4);
  const StepPlan plan = rig.scheduler.plan_step();
  SampledToken token;
  token.sequence = SequenceId{2};
  const std::vector<SampledToken> of_another{token}, none;
  SECTION("missing") { CHECK_THROWS_AS(rig.scheduler.finish_step(plan, none), ContractError); }
  SECTION("of another") {
    CHECK_THROWS_AS(rig.scheduler.finish_step(plan, of_another), ContractError);
  }
}

TEST_CASE("Settings and sequences that could never finish are refused", "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 15;
  CHECK_THROWS_AS(SchedulerRig(config), ContractError);
  config = small_config();
  config.max_step_tokens = 7;
  CHECK_THROWS_AS(SchedulerRig(config), ContractError);
  SchedulerRig rig;
  CHECK_THROWS_AS(rig.add(1, 61, 4), ContractError);
  CHECK_THROWS_AS(rig.add(2, 0, 4), ContractError);
  rig.add(3, 4);
  CHECK_THROWS_AS(rig.add(3, 4), ContractError);
}

TEST_CASE("A million-token prompt is hashed once, however long it waits and is read",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.moba.block_size = 64;
  config.max_model_len = 1'000'000;
  config.num_blocks = 16'000;
  config.max_step_tokens = 64'000;
  int64_t num_hashed = 0;
  SchedulerRig rig(config, [&](uint64_t parent, std::span<const TokenId> tokens) {
    ++num_hashed;
    return hash_block(parent, tokens);
  });
  const auto step = [&] {  // without Rig's integrity check, which is O(pool)
    rig.current = rig.scheduler.plan_step();
    std::vector<SampledToken> sampled;
    for (const auto& entry : rig.current.sequences) {
      if (!entry.samples) continue;
      sampled.emplace_back();
      sampled.back().sequence = entry.sequence->id;
    }
    rig.scheduler.finish_step(rig.current, sampled);
    rig.scheduler.take_finished();
  };
  rig.add(1, 900'000, 100);
  rig.add(2, 900'001, 100);  // waits until the first is done
  for (int i = 0; i < 100; ++i) step();
  CHECK(rig.scheduler.num_waiting() == 1);
  for (int i = 0; i < 128; ++i) step();  // twice 15 steps of prefill and 99 of decode in all
  CHECK(rig.scheduler.num_running() == 0);
  CHECK(num_hashed <= 2 * (900'101 / 64));
}

}  // namespace quire
