#include "server/progress_bar.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <vector>

namespace quire {
namespace {

constexpr int64_t kMiB = 1 << 20, kGiB = 1 << 30;

class TurnedClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void turn(int milliseconds) { now_ += std::chrono::milliseconds(milliseconds); }

 private:
  TimePoint now_{};
};

TEST_CASE("a progress line: the bar, the bytes, the rate and the time that is left") {
  CHECK(progress_line({7 * kGiB, 14 * kGiB, 14.0}, 71) ==
        "weights [#####     ]  50%, 7.0 of 14.0 GiB, 512 MiB/s, 14 s left");
  CHECK(progress_line({300 * kMiB, 600 * kMiB, 3.0}, 71) ==
        "weights [#####     ]  50%, 300 of 600 MiB, 100 MiB/s, 3 s left");
  CHECK(progress_line({kGiB, 141 * kGiB, 2.0}, 71) ==
        "weights [          ]   0%, 1.0 of 141.0 GiB, 512 MiB/s, 4 min 40 s left");
  CHECK(progress_line({2 * kGiB, 2 * kGiB, 4.0}, 200) ==
        "weights [" + std::string(40, '#') + "] 100%, 2.0 of 2.0 GiB, 512 MiB/s, 0 s left");
  CHECK(progress_line({0, 2 * kGiB, 0.0}, 71) == "weights [          ]   0%, 0.0 of 2.0 GiB");
}

TEST_CASE("a progress line fits every terminal") {
  for (size_t width = 0; width < 200; ++width) {
    CAPTURE(width);
    CHECK(progress_line({kGiB, 141 * kGiB, 2.0}, width).size() <= width);
  }
  CHECK(progress_line({kGiB, 2 * kGiB, 2.0}, 24) == "weights  50%, 1.0 of 2.0");
  CHECK(progress_line({0, 0, 0.0}, 30) == "weights   0%, 0 of 0 MiB");
}

TEST_CASE("a progress bar is drawn over itself ten times a second, and ends with its line") {
  TurnedClock clock;
  std::string terminal;
  size_t num_draws = 0;
  {
    ProgressBar bar(clock, 80, [&](std::string_view text) {
      terminal += text;
      num_draws += text.find('%') != std::string_view::npos;
    });
    for (int i = 1; i <= 1000; ++i) {
      clock.turn(1);
      bar.update(i * kMiB, 1000 * kMiB);
    }
    CHECK(num_draws == 10);
    CHECK(terminal.find('\n') == std::string::npos);
  }
  CHECK(terminal.ends_with("100%, 1000 of 1000 MiB, 1000 MiB/s, 0 s left\n"));
}

TEST_CASE("a load that takes no time draws no progress bar") {
  TurnedClock clock;
  std::string terminal;
  {
    ProgressBar bar(clock, 80, [&](std::string_view text) { terminal += text; });
    clock.turn(99);
    bar.update(1, 1);
    bar.print_above([&] { terminal += "a line\n"; });
  }
  CHECK(terminal == "a line\n");
}

TEST_CASE("a line of the log stands above the progress bar") {
  TurnedClock clock;
  std::string terminal;
  ProgressBar bar(clock, 30, [&](std::string_view text) { terminal += text; });
  clock.turn(1000);
  bar.update(kGiB, 2 * kGiB);
  const std::string drawn = terminal;
  bar.print_above([&] { terminal += "a line\n"; });
  CHECK(terminal == drawn + "\r\x1b[Ka line\n" + drawn);
}

}  // namespace
}  // namespace quire
