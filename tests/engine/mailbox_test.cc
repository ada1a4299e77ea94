#include "engine/core/mailbox.h"

#include <catch2/catch.hpp>
#include <memory>
#include <thread>
#include <vector>

namespace quire {

using std::chrono::hours;

TEST_CASE("Messages come out in the order they came in", "[mailbox]") {
  Mailbox<std::unique_ptr<int>> mailbox;
  for (int i = 0; i < 3; ++i) CHECK(mailbox.post(std::make_unique<int>(i)));
  const auto messages = mailbox.take_all();
  REQUIRE(messages.size() == 3);
  for (int i = 0; i < 3; ++i) CHECK(*messages[static_cast<size_t>(i)] == i);
  CHECK(mailbox.take_all().empty());
}

TEST_CASE("A closed mailbox refuses, keeps what is in, and does not wait", "[mailbox]") {
  Mailbox<int> mailbox;
  mailbox.post(1);
  mailbox.close();
  CHECK_FALSE(mailbox.post(2));
  CHECK(mailbox.take_all() == std::vector{1});
  mailbox.wait_for(hours(1));
}

TEST_CASE("A message or the end wakes the waiting thread, and none is lost", "[mailbox][threads]") {
  Mailbox<int> mailbox;
  constexpr int kPerThread = 2000;
  std::vector<std::thread> posters;
  for (int t = 0; t < 3; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < kPerThread; ++i) mailbox.post(t * kPerThread + i);
    });
  }
  std::vector<int> last(3, -1);
  int num_taken = 0;
  bool in_order = true;
  while (num_taken < 3 * kPerThread) {
    mailbox.wait_for(hours(1));
    for (const int message : mailbox.take_all()) {
      int& previous = last[static_cast<size_t>(message / kPerThread)];
      in_order = in_order && message > previous;
      previous = message;
      ++num_taken;
    }
  }
  for (std::thread& poster : posters) poster.join();
  CHECK(in_order);
  std::thread closer([&] { mailbox.close(); });
  mailbox.wait_for(hours(1));
  closer.join();
  CHECK_FALSE(mailbox.post(0));
}

}  // namespace quire
