#include "engine/scheduler/step_pacer.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/engine/scheduler_rig.h"

namespace quire {
namespace {

/// Seconds of the steps that a machine takes whose steps cost `base` and `per_token`, as the pacer
/// cuts them, from `depth` on.
std::vector<double> paced_steps(StepPacer& pacer, int32_t depth, double base, double per_token,
                                int num_steps) {
  std::vector<double> seconds;
  for (int i = 0; i < num_steps; ++i) {
    const int32_t num_tokens = pacer.max_prefill_tokens(depth);
    seconds.push_back(base + per_token * num_tokens);
    pacer.observe(depth, num_tokens, seconds.back());
    depth += num_tokens;
  }
  return seconds;
}

TEST_CASE("StepPacer: steps soon take the time that they may, whatever a token costs") {
  for (const double per_token : {1e-6, 1e-4, 2e-3}) {
    for (const double base : {0.0, 0.01, 0.05}) {
      CAPTURE(per_token, base);
      StepPacer pacer(0.1);
      const std::vector<double> seconds = paced_steps(pacer, 1000, base, per_token, 60);
      CHECK(seconds.back() <= 0.101);
      CHECK(seconds.back() >= 0.05);
    }
  }
}

TEST_CASE("StepPacer: a prompt gets on beside decodes that take longer than a step may") {
  StepPacer pacer(0.01);
  paced_steps(pacer, 0, 0.5, 1e-4, 50);
  CHECK(pacer.max_prefill_tokens(0) == StepPacer::kMinTokens);
}

TEST_CASE("StepPacer: no step is far too long where tokens grow dearer with the depth") {
  StepPacer pacer(0.1);
  int32_t depth = 0;
  for (int i = 0; i < 3000 && depth < 2'000'000; ++i) {
    const int32_t num_tokens = pacer.max_prefill_tokens(depth);
    const double seconds = num_tokens * (1e-5 + 1e-9 * depth);  // as full attention
    CHECK(seconds < 0.2);
    pacer.observe(depth, num_tokens, seconds);
    depth += num_tokens;
  }
  CHECK(depth >= 100'000);
}

TEST_CASE("StepPacer: one slow step is believed at once and forgotten in a few") {
  StepPacer pacer(0.1);
  paced_steps(pacer, 4096, 0, 1e-4, 10);
  const int32_t before = pacer.max_prefill_tokens(4096);
  pacer.observe(4096, before, 1.0);
  CHECK(pacer.max_prefill_tokens(4096) <= before / 9);
  for (int i = 0; i < 20; ++i) pacer.observe(4096, 100, 0.01);
  CHECK(pacer.max_prefill_tokens(4096) >= before * 9 / 10);
}

TEST_CASE("StepPacer: without a limit, and from times that say nothing, it never limits") {
  constexpr int32_t kUnlimited = std::numeric_limits<int32_t>::max();
  StepPacer unlimited(0);
  unlimited.observe(100, 10, 5.0);
  CHECK(unlimited.max_prefill_tokens(100) == kUnlimited);
  StepPacer pacer(0.1);
  pacer.observe(100, 0, 5.0);
  pacer.observe(100, 10, 0.0);
  pacer.observe(100, 10, -1.0);
  CHECK(pacer.max_prefill_tokens(100) == StepPacer::kFirstTokens);
  pacer.observe(100, 1000, 1e-12);
  CHECK(pacer.max_prefill_tokens(100) == kUnlimited);
}

/// Room for one long prompt; steps of up to 4000 tokens, 0.1 s where somebody waits.
EngineConfig paced_config() {
  EngineConfig config = small_config();
  config.moba.block_size = 64;
  config.max_model_len = 100'000;
  config.num_blocks = 4000;
  config.max_step_tokens = 4000;
  config.max_step_seconds = 0.1;
  return config;
}

/// One step on a machine that takes so long for a token; its plan.
Plan timed_step(SchedulerRig& rig, double seconds_per_token = 1e-3) {
  const Plan plan = rig.plan();
  int32_t num_tokens = 0;
  for (const Planned& planned : plan) num_tokens += planned.num_tokens;
  rig.scheduler.note_duration(rig.current, seconds_per_token * num_tokens);
  rig.finish();
  return plan;
}

TEST_CASE("Scheduler: a long prompt alone takes large steps, beside a decode short ones") {
  SchedulerRig rig(paced_config());
  rig.add(1, 90'000);
  timed_step(rig);  // nothing is known yet
  for (int i = 0; i < 40; ++i) {
    const Plan alone = timed_step(rig);
    REQUIRE(alone.size() == 1);
    CHECK(alone[0].num_tokens >= 500);
    CHECK(alone[0].num_tokens <= 1000);  // a second: ten times as long as a step with company
  }
  rig.add(2, 8, 50);
  const Plan first = timed_step(rig);  // a short prompt is waited for, too
  REQUIRE(first.size() == 2);
  CHECK(first[0] == Planned{2, 8});
  CHECK(first[1].num_tokens <= 100);
  while (!rig.finished.contains(SequenceId{2})) {
    const Plan plan = timed_step(rig);
    REQUIRE(plan.size() == 2);
    CHECK(plan[0] == Planned{2, 1});
    CHECK(plan[1].num_tokens >= 40);
    CHECK(plan[1].num_tokens <= 100);
  }
  const Plan alone_again = timed_step(rig);
  REQUIRE(alone_again.size() == 1);
  CHECK(alone_again[0].num_tokens >= 900);
}

TEST_CASE("Scheduler: short prompts teach nothing about the cost of large chunks") {
  SchedulerRig rig(paced_config());
  for (uint64_t id = 1; id <= 5; ++id) {
    rig.add(id, 10, 1);
    timed_step(rig, 0.01);
  }
  rig.add(6, 90'000);
  CHECK(timed_step(rig, 1e-6) == Plan{{6, StepPacer::kFirstTokens * StepPacer::kAloneFactor}});
  CHECK(timed_step(rig, 1e-6) == Plan{{6, 4000}});
}

TEST_CASE("Scheduler: prompts that nobody waits for share the whole budget") {
  SchedulerRig rig(paced_config());
  rig.add(1, 50'000);
  timed_step(rig, 1e-6);
  rig.add(2, 40'000);
  CHECK(timed_step(rig, 1e-6) == Plan{{2, 2000}, {1, 2000}});  // the shorter one first
}

TEST_CASE("Scheduler: without a time limit the budget is tokens alone") {
  EngineConfig config = paced_config();
  config.max_step_seconds = 0;
  SchedulerRig rig(config);
  rig.add(1, 90'000);
  timed_step(rig);
  rig.add(2, 8, 50);
  timed_step(rig);
  CHECK(timed_step(rig) == Plan{{2, 1}, {1, 3999}});
}

}  // namespace
}  // namespace quire
