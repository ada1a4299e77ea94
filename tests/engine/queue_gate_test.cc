#include "engine/scheduler/queue_gate.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <thread>
#include <vector>

#include "kernels/check.h"

namespace quire {

TEST_CASE("The gate bounds requests and tokens, and says so", "[queue_gate]") {
  const auto gate = std::make_shared<QueueGate>(2, 100);
  auto first = gate->enter(60);
  REQUIRE(first.ok());
  const auto refused = gate->enter(41);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kResourceExhausted);
  CHECK(refused.status().detail() == "rate_limit_exceeded");
  CHECK(gate->num_requests() == 1);
  CHECK(gate->num_tokens() == 60);

  const auto second = gate->enter(40);
  REQUIRE(second.ok());
  CHECK_FALSE(gate->enter(0).ok());  // a third request
  first.value().reset();
  CHECK(gate->num_requests() == 1);
  CHECK(gate->num_tokens() == 40);
  CHECK(gate->enter(60).ok());
}

TEST_CASE("A request larger than the limit waits alone", "[queue_gate]") {
  const auto gate = std::make_shared<QueueGate>(8, 100);
  {
    const auto large = gate->enter(5000);
    REQUIRE(large.ok());
    CHECK_FALSE(gate->enter(1).ok());
  }
  const auto small = gate->enter(1);
  REQUIRE(small.ok());
  CHECK_FALSE(gate->enter(5000).ok());
}

TEST_CASE("A corrected estimate counts, in both directions, and leaves as corrected",
          "[queue_gate]") {
  const auto gate = std::make_shared<QueueGate>(8, 100);
  auto ticket = gate->enter(80);
  REQUIRE(ticket.ok());
  ticket.value()->correct(20);
  CHECK(gate->num_tokens() == 20);
  const auto other = gate->enter(70);
  REQUIRE(other.ok());
  ticket.value()->correct(500);  // what is in stays in
  CHECK(gate->num_tokens() == 570);
  CHECK(gate->num_requests() == 2);
  ticket.value().reset();
  CHECK(gate->num_tokens() == 70);
}

TEST_CASE("A ticket may outlive everybody who knows the gate", "[queue_gate]") {
  auto gate = std::make_shared<QueueGate>(1, 10);
  auto ticket = gate->enter(5);
  gate.reset();
  REQUIRE(ticket.ok());
  ticket.value()->correct(7);
  ticket.value().reset();
}

TEST_CASE("Estimates that no text has are refused loudly", "[queue_gate]") {
  const auto gate = std::make_shared<QueueGate>(1, 10);
  CHECK_THROWS_AS(gate->enter(-1), ContractError);
  CHECK_THROWS_AS(gate->enter(int64_t{1} << 40), ContractError);
  CHECK(gate->num_requests() == 0);
}

TEST_CASE("Many threads never overfill the gate and leave it empty", "[queue_gate][threads]") {
  constexpr int32_t kMaxRequests = 3;
  constexpr int64_t kMaxTokens = 100;
  const auto gate = std::make_shared<QueueGate>(kMaxRequests, kMaxTokens);
  std::atomic<int32_t> num_in{0};
  std::atomic<int64_t> tokens_in{0};
  std::atomic<int> num_violations{0}, num_entered{0};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::minstd_rand random(seed + 1);
      for (int i = 0; i < 20'000; ++i) {
        const auto num_tokens = static_cast<int64_t>(random() % 60);
        const auto ticket = gate->enter(num_tokens);
        if (!ticket.ok()) continue;
        ++num_entered;
        const bool too_many = ++num_in > kMaxRequests;
        const bool too_long = (tokens_in += num_tokens) > kMaxTokens;
        num_violations += too_many || too_long;
        tokens_in -= num_tokens;
        --num_in;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(num_violations == 0);
  CHECK(num_entered > 0);
  CHECK(gate->num_requests() == 0);
  CHECK(gate->num_tokens() == 0);
}

}  // namespace quire
