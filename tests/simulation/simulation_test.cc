#include "tests/simulation/simulation.h"

#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>

// To replay one life:   QUIRE_SIMULATION_SEED=<seed> quire_simulation_tests
// To live for longer:   QUIRE_SIMULATION_NUM_SEEDS=100000 quire_simulation_tests

namespace quire {
namespace {

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

/// Simulated failures are reported as loudly as real ones.
struct Silence {
  Silence() : level(spdlog::get_level()) { spdlog::set_level(spdlog::level::off); }
  ~Silence() { spdlog::set_level(level); }
  spdlog::level::level_enum level;
};

Tally run_seed(uint64_t seed) {
  INFO("replay with QUIRE_SIMULATION_SEED=" << seed);  // printed after a crash, too
  Simulation simulation(seed);
  const Tally tally = simulation.run();
  std::string report;
  for (size_t i = 0; i < simulation.violations().size() && i < 10; ++i) {
    report += "\n  " + simulation.violations()[i];
  }
  INFO("what went wrong:" << report);
  REQUIRE(simulation.violations().empty());
  return tally;
}

}  // namespace

TEST_CASE("Whatever happens, every sequence gets its own tokens, one end, and its blocks go back",
          "[simulation]") {
  const Silence silence;
  if (std::getenv("QUIRE_SIMULATION_SEED") != nullptr) {
    run_seed(number_from_environment("QUIRE_SIMULATION_SEED", 0));
    return;
  }
  const uint64_t num_seeds = number_from_environment("QUIRE_SIMULATION_NUM_SEEDS", 1000);
  Tally all;
  for (uint64_t seed = 1; seed <= num_seeds; ++seed) all += run_seed(seed);
  if (num_seeds < 1000) return;
  CHECK(all.num_tokens > 10'000);
  CHECK(all.num_completed > 5000);
  CHECK(all.num_preemptions > 300);
  CHECK(all.num_restarts > 500);
  CHECK(all.num_evictions > 1000);
  CHECK(all.num_cached_tokens > 10'000);
  CHECK(all.num_faults > 100);
  CHECK(all.num_cancelled > 100);
  CHECK(all.num_expired > 100);
  CHECK(all.num_queue_full > 100);
  CHECK(all.num_too_long > 10);
  CHECK(all.num_unhealthy > 10);
  CHECK(all.num_drained > 10);
}

TEST_CASE("One seed is one life", "[simulation]") {
  const Silence silence;
  for (const uint64_t seed : {3, 14, 159}) CHECK(run_seed(seed) == run_seed(seed));
}

}  // namespace quire
