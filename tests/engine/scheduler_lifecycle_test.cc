#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "tests/engine/scheduler_rig.h"

namespace quire {

TEST_CASE("Out of blocks, the last rank is preempted, recomputed in its phases, and comes first",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.moba.decode = AttentionMode::kFull;
  config.num_blocks = 16;
  config.enable_prefix_cache = GENERATE(true, false);
  SchedulerRig rig(config);
  rig.add(1, 20, 44);  // up to 16 blocks: the whole pool
  Sequence& second = rig.add(2, 18, 30);
  while (second.usage.num_preemptions == 0) rig.step();
  CHECK(rig.metrics.preemptions.value() >= 1);
  CHECK(second.state == SequenceState::kWaiting);
  CHECK(second.block_table.block_ids.empty());
  CHECK(second.num_completion_tokens() > 1);
  rig.add(3, 4, 1);  // of the same class, later
  CHECK(rig.scheduler.queue_position(SequenceId{2}) == 0);
  rig.run_until_finished(1);

  const std::vector<TokenId> before = second.tokens;
  int32_t num_prompt_seen = 0, num_completion_seen = 0;
  for (int i = 0; second.tokens.size() == before.size(); ++i) {
    REQUIRE(i < 50);
    rig.plan();
    const int32_t begin = second.num_computed_tokens;
    if (num_prompt_seen == 0) num_prompt_seen = begin;  // from the cache
    const ScheduledSequence& entry = rig.entry(2);
    const bool is_prompt = begin < second.num_prompt_tokens;
    CHECK(entry.attention == (is_prompt ? AttentionMode::kMoba : AttentionMode::kFull));
    (is_prompt ? num_prompt_seen : num_completion_seen) += entry.num_tokens;
    rig.finish();
  }
  CHECK(num_prompt_seen == second.num_prompt_tokens);
  CHECK(num_completion_seen == static_cast<int32_t>(before.size()) - second.num_prompt_tokens);
  CHECK(std::equal(before.begin(), before.end(), second.tokens.begin()));
  rig.run_until_finished(2);
}

TEST_CASE("A lower class is preempted before a higher one, whoever came first", "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 16;
  config.enable_prefix_cache = false;
  SchedulerRig rig(config);
  auto background = sequence_of(1, ramp(24), 40);
  background->request.priority = 1;
  rig.add(std::move(background));
  rig.step();
  rig.step();
  Sequence& urgent = rig.add(2, 24, 40);
  rig.run_until_finished(2);
  CHECK(urgent.usage.num_preemptions == 0);
  rig.run_until_finished(1);
  CHECK(rig.done.at(SequenceId{1})->usage.num_preemptions >= 1);
}

TEST_CASE("A sequence as large as the pool finishes, alone or in company", "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 16;  // exactly max_model_len
  SchedulerRig rig(config);
  rig.add(1, 63, 1);
  rig.add(2, 4, 60);
  rig.add(3, 1, 63);
  for (const uint64_t id : {1, 2, 3}) rig.run_until_finished(id);
  for (const uint64_t id : {1, 2, 3}) {
    const Sequence& sequence = *rig.done.at(SequenceId{id});
    CHECK(sequence.num_tokens() == 64);
    for (int32_t i = sequence.num_prompt_tokens; i < 64; ++i) {
      CHECK(sequence.tokens[static_cast<size_t>(i)] == 500'000 + i);
    }
  }
  CHECK(rig.cache.num_allocatable() == 16);
}

TEST_CASE("What was preempted at its newest token goes on in the step that takes it back",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 17;
  SchedulerRig rig(config);
  Sequence& kept = rig.add(1, 8, 10);
  Sequence ballast;
  ballast.tokens = ramp(64, 7000);
  rig.step();  // 8 computed: two sealed blocks
  REQUIRE(rig.cache.reserve(ballast, 60));
  const StepPlan plan = rig.scheduler.plan_step();
  CHECK(plan.empty());
  CHECK(plan.preempted == std::vector{SequenceId{1}});
  CHECK(kept.state == SequenceState::kWaiting);
  rig.cache.release(ballast);
  CHECK(rig.step() == Plan{{1, 1}});
}

TEST_CASE("A sequence that outgrows a rope set is recomputed with the other one, once",
          "[scheduler]") {
  EngineConfig config = small_config();
  config.rope_switch_len = 18;
  SchedulerRig rig(config);
  Sequence& sequence = rig.add(1, 16, 8);
  CHECK(sequence.rope_set == 0);
  CHECK(rig.step() == Plan{{1, 16}});  // 17 tokens now
  CHECK(rig.step() == Plan{{1, 1}});   // 18
  CHECK(rig.step() == Plan{{1, 1}});   // 19, of which 18 are computed
  CHECK(sequence.rope_set == 0);
  const std::vector<TokenId> before = sequence.tokens;
  CHECK(rig.plan() == Plan{{1, 16}});  // as many as a step may have
  CHECK(rig.current.restarted == std::vector{SequenceId{1}});
  CHECK(rig.current.preempted.empty());
  CHECK(sequence.rope_set == 1);
  CHECK_FALSE(rig.entry(1).samples);
  rig.finish();
  CHECK(rig.step() == Plan{{1, 3}});
  REQUIRE(sequence.num_tokens() == 20);
  CHECK(std::equal(before.begin(), before.end(), sequence.tokens.begin()));
  for (int i = 0; i < 4; ++i) {
    CHECK(rig.plan() == Plan{{1, 1}});
    CHECK(rig.current.restarted.empty());
    rig.finish();
  }
  const Sequence& done = *rig.done.at(SequenceId{1});
  CHECK(done.num_completion_tokens() == 8);
  CHECK(done.usage.num_preemptions == 0);
  CHECK(rig.metrics.preemptions.value() == 0);
  CHECK(rig.metrics.prompt_tokens.value() == 16);  // counted once
}

TEST_CASE("A sequence that ends as long as a rope set reaches is never recomputed", "[scheduler]") {
  EngineConfig config = small_config();
  config.rope_switch_len = 18;
  SchedulerRig rig(config);
  rig.add(1, 16, 3);  // the 19th token is sampled, and nothing behind it
  rig.run_until_finished(1);
  CHECK(rig.metrics.prefill_tokens.value() == 16);
}

TEST_CASE("Blocks of one rope set are nobody's of the other", "[scheduler]") {
  EngineConfig config = small_config();
  config.rope_switch_len = 18;
  SchedulerRig rig(config);
  Sequence& grows = rig.add(sequence_of(1, ramp(16), 8));
  rig.run_until_finished(1);
  CHECK(grows.rope_set == 1);
  const std::vector<TokenId> tokens = rig.done.at(SequenceId{1})->tokens;
  const auto cached_tokens = [&](uint64_t id, size_t num_tokens) {
    rig.add(sequence_of(
        id, {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(num_tokens)}, 1));
    rig.run_until_finished(id);
    return rig.done.at(SequenceId{id})->usage.cached_tokens;
  };
  CHECK(cached_tokens(2, 18) == 16);  // the blocks from before the switch
  CHECK(cached_tokens(3, 22) == 20);  // those from behind it
  // A long prompt leaves nothing to a short one that begins like it.
  rig.add(sequence_of(4, ramp(30, 9000), 1));
  rig.run_until_finished(4);
  rig.add(sequence_of(5, ramp(18, 9000), 1));
  rig.run_until_finished(5);
  CHECK(rig.done.at(SequenceId{5})->usage.cached_tokens == 0);
}

TEST_CASE("Who outgrows a rope set finishes in a full pool, in company", "[scheduler]") {
  EngineConfig config = small_config();
  config.num_blocks = 16;  // exactly max_model_len
  config.rope_switch_len = GENERATE(1, 9, 33, 63);
  SchedulerRig rig(config);
  for (uint64_t id = 1; id <= 6; ++id)
    rig.add(sequence_of(id, ramp(8), 40 + static_cast<int32_t>(2 * id)));
  for (uint64_t id = 1; id <= 6; ++id) rig.run_until_finished(id);
  for (uint64_t id = 1; id <= 6; ++id) {
    const Sequence& sequence = *rig.done.at(SequenceId{id});
    REQUIRE(sequence.num_completion_tokens() == 40 + static_cast<int32_t>(2 * id));
    for (int32_t i = 8; i < sequence.num_tokens(); ++i) {
      CHECK(sequence.tokens[static_cast<size_t>(i)] == 500'000 + i);
    }
  }
  CHECK(rig.cache.num_allocatable() == 16);
}

TEST_CASE("An equal prompt waits for the blocks that are being computed", "[scheduler]") {
  SchedulerRig rig;
  for (const uint64_t id : {1, 2, 3}) rig.add(sequence_of(id, ramp(42), 2));
  CHECK(rig.step() == Plan{{1, 16}});
  CHECK(rig.step() == Plan{{1, 16}});
  CHECK(rig.step() == Plan{{1, 10}});
  CHECK(rig.step() == Plan{{1, 1}, {2, 2}, {3, 2}});  // all but the tail is shared
  CHECK(rig.metrics.prefix_hit_tokens.value() == 2 * 40);
  rig.run_until_finished(3);
  CHECK(rig.done.at(SequenceId{2})->usage.cached_tokens == 40);
}

TEST_CASE("Who waits for another's blocks goes on when that one is gone", "[scheduler]") {
  SchedulerRig rig;
  rig.add(sequence_of(1, ramp(42), 2));
  rig.add(sequence_of(2, ramp(42), 2));
  rig.step();
  SECTION("cancelled") { CHECK(rig.scheduler.remove(SequenceId{1}) != nullptr); }
  SECTION("failed") {
    const StepPlan plan = rig.scheduler.plan_step();
    CHECK(rig.scheduler.fail_step(plan).size() == 1);
  }
  CHECK(rig.step() == Plan{{2, 16}});
  CHECK(rig.done.empty());
  rig.run_until_finished(2);
  CHECK(rig.done.at(SequenceId{2})->usage.cached_tokens == 16);
}

TEST_CASE("A higher class does not wait for a lower one's blocks", "[scheduler]") {
  SchedulerRig rig;
  auto background = sequence_of(1, ramp(42), 2);
  background->request.priority = 1;
  rig.add(std::move(background));
  rig.step();
  rig.add(sequence_of(2, ramp(42), 2));
  CHECK(rig.step() == Plan{{2, 16}});
}

TEST_CASE("A cancelled sequence's blocks are back at once, in every state", "[scheduler]") {
  EngineConfig config = small_config();
  config.max_num_seqs = 2;
  SchedulerRig rig(config);
  rig.add(1, 4, 30);
  rig.step();
  rig.add(2, 50);
  rig.add(3, 9);
  rig.step();  // 1 decodes, 2 is being read, 3 waits
  for (const uint64_t id : {1, 2, 3}) {
    const std::unique_ptr<Sequence> removed = rig.scheduler.remove(SequenceId{id});
    REQUIRE(removed != nullptr);
    CHECK(removed->block_table.block_ids.empty());
    rig.check();
    CHECK(rig.scheduler.remove(SequenceId{id}) == nullptr);
  }
  CHECK(rig.cache.num_allocatable() == config.num_blocks);
  CHECK(rig.plan().empty());
}

TEST_CASE("A generation ends at a stop token, not before min_new_tokens, or at its length",
          "[scheduler]") {
  SchedulerRig rig;
  const auto run = [&](uint64_t id, int32_t min_new, int32_t max_new, TokenId sampled) {
    auto sequence = sequence_of(id, ramp(4, static_cast<TokenId>(10 * id)), max_new);
    sequence->request.stop_token_ids = {7, 8};
    sequence->request.min_new_tokens = min_new;
    rig.add(std::move(sequence));
    rig.next_token = sampled;
    rig.run_until_finished(id);
    return std::pair(rig.done.at(SequenceId{id})->usage.completion_tokens,
                     rig.finished.at(SequenceId{id}));
  };
  CHECK(run(1, 0, 5, 8) == std::pair(1, FinishReason::kStop));
  CHECK(run(2, 0, 5, 9) == std::pair(5, FinishReason::kLength));
  CHECK(run(3, 2, 5, 7) == std::pair(3, FinishReason::kStop));
  CHECK(run(4, 0, 1, 7) == std::pair(1, FinishReason::kStop));
  CHECK(run(5, 5, 5, 7) == std::pair(5, FinishReason::kLength));
}

TEST_CASE("Usage counts blocks, not units, where tokens select by a schedule", "[scheduler]") {
  EngineConfig config = small_config();  // blocks of 4, top 2
  config.moba.schedule.num_stages = 1;
  config.moba.schedule.stages[0] = {.from = 10, .group = 2};
  SchedulerRig rig(config);
  rig.add(1, 23, 1);
  rig.run_until_finished(1);
  int64_t per_layer = 0;
  for (int32_t p = 0; p < 23; ++p) {
    const int32_t num_blocks = p / 4 + 1;
    if (p < 10) {
      per_layer += std::min(2, num_blocks);
    } else {  // a unit of history, and one or two blocks of the token's own
      per_layer += 2 + (p % 8 < 4 ? 1 : 2);
    }
  }
  const SequenceUsage& usage = rig.done.at(SequenceId{1})->usage;
  CHECK(usage.blocks_attended == per_layer * config.num_layers);
}

TEST_CASE("Usage counts the blocks each token attended, layer by layer", "[scheduler]") {
  EngineConfig config = small_config();
  config.moba.full_attention_layers = {2};
  config.moba.decode = AttentionMode::kFull;
  SchedulerRig rig(config);
  rig.add(1, 19, 6);
  rig.run_until_finished(1);
  int64_t attended = 0, available = 0;
  for (int32_t p = 0; p < 19 + 5; ++p) {  // the last sampled token is never computed
    for (int32_t layer = 0; layer < 3; ++layer) {
      const int64_t num_blocks = p / 4 + 1;
      const bool is_moba = layer != 2 && p < 19;
      available += num_blocks;
      attended += is_moba ? std::min<int64_t>(2, num_blocks) : num_blocks;
    }
  }
  const SequenceUsage& usage = rig.done.at(SequenceId{1})->usage;
  CHECK(usage.blocks_attended == attended);
  CHECK(usage.blocks_available == available);
  CHECK(usage.prompt_tokens == 19);
  CHECK(usage.completion_tokens == 6);
  CHECK(usage.cached_tokens == 0);
}

TEST_CASE("Deadlines end what runs and what waits, and nothing else", "[scheduler]") {
  EngineConfig config = small_config();
  config.max_num_seqs = 1;
  SchedulerRig rig(config);
  using std::chrono::milliseconds;
  for (uint64_t id = 1; id <= 3; ++id) {
    auto sequence = sequence_of(id, ramp(4, static_cast<TokenId>(100 * id)), 40);
    if (id != 2) sequence->request.deadline = rig.clock.now() + milliseconds(10);
    rig.add(std::move(sequence));
  }
  rig.step();
  rig.clock.advance(milliseconds(9));
  CHECK(rig.scheduler.remove_expired().empty());
  rig.clock.advance(milliseconds(1));
  CHECK(rig.scheduler.remove_expired().size() == 2);
  CHECK(rig.step() == Plan{{2, 4}});
}

TEST_CASE("A failed step takes its own sequences and publishes nothing of theirs", "[scheduler]") {
  EngineConfig config = small_config();
  config.max_num_seqs = 1;
  SchedulerRig rig(config);
  rig.add(sequence_of(1, ramp(12), 2));
  rig.add(sequence_of(2, ramp(12), 2));
  const StepPlan plan = rig.scheduler.plan_step();
  REQUIRE(plan.sequences.size() == 1);
  const auto failed = rig.scheduler.fail_step(plan);
  REQUIRE(failed.size() == 1);
  CHECK(failed[0]->id == SequenceId{1});
  CHECK(rig.cache.num_allocatable() == config.num_blocks);
  CHECK(rig.metrics.blocks_cached.value() == 0);
  CHECK(rig.step() == Plan{{2, 12}});
}

TEST_CASE("A queue ticket comes back at the first admission, times are of that moment",
          "[scheduler]") {
  struct Ticket final : QueueTicket {
    explicit Ticket(int& counter) : num_returned(counter) {}
    ~Ticket() override { ++num_returned; }
    void correct(int64_t) override {}
    int& num_returned;
  };
  SchedulerRig rig;
  int num_returned = 0;
  auto sequence = sequence_of(1, ramp(20), 2);
  sequence->request.queue_ticket = std::make_unique<Ticket>(num_returned);
  sequence->submitted_at = rig.clock.now();
  Sequence& added = rig.add(std::move(sequence));
  CHECK(num_returned == 0);
  rig.clock.advance(std::chrono::milliseconds(250));
  rig.plan();
  CHECK(num_returned == 1);
  CHECK(added.usage.queue_seconds == Approx(0.25));
  rig.finish();
}

}  // namespace quire
