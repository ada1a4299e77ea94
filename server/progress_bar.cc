#include "server/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace quire {
namespace {

constexpr double kSecondsPerDraw = 0.1;
constexpr size_t kMinBarWidth = 8, kMaxBarWidth = 40;
constexpr size_t kNumbersWidth = 50;  // usually enough, so that the bar's end stands still
constexpr std::string_view kTakeAway = "\r\x1b[K";  // to the line's begin; erase to its end

std::string format(const char* pattern, auto... values) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string time_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::min(seconds, 359'999.0) + 0.5);
  if (whole < 60) return format("%d s", static_cast<int>(whole));
  return format("%d min %02d s", static_cast<int>(whole / 60), static_cast<int>(whole % 60));
}

}  // namespace

std::string progress_line(const LoadState& state, size_t width) {
  constexpr double kMiB = 1 << 20, kGiB = 1 << 30;
  const auto all = static_cast<double>(std::max<int64_t>(state.all_bytes, 1));
  const double read = std::clamp(static_cast<double>(state.read_bytes), 0.0, all);
  const bool is_large = all >= kGiB;
  const double unit = is_large ? kGiB : kMiB;
  std::string numbers =
      format("%3d%%, ", static_cast<int>(100 * read / all)) +
      format(is_large ? "%.1f of %.1f " : "%.0f of %.0f ", read / unit, all / unit) +
      (is_large ? "GiB" : "MiB");
  if (state.elapsed_seconds > 0 && read > 0) {
    const double bytes_per_second = read / state.elapsed_seconds;
    numbers += format(", %.0f MiB/s, ", bytes_per_second / kMiB) +
               time_text((all - read) / bytes_per_second) + " left";
  }
  const std::string_view title = "weights ";
  const size_t taken = title.size() + 3 + kNumbersWidth;  // with the brackets and a space
  std::string line(title);
  if (taken + kMinBarWidth <= width) {
    const size_t bar_width = std::min(width - taken, kMaxBarWidth);
    const auto filled = static_cast<size_t>(static_cast<double>(bar_width) * read / all);
    line += '[' + std::string(filled, '#') + std::string(bar_width - filled, ' ') + "] ";
  }
  return (line + numbers).substr(0, width);
}

ProgressBar::ProgressBar(const Clock& clock, size_t width, Write write)
    : clock_(clock),
      width_(width),
      write_(std::move(write)),
      start_(clock.now()),
      last_draw_(start_) {}

ProgressBar::~ProgressBar() {
  if (!is_drawn_) return;
  draw();
  write_("\n");
}

void ProgressBar::update(int64_t read_bytes, int64_t all_bytes) {
  const Clock::TimePoint now = clock_.now();
  state_ = {read_bytes, all_bytes, seconds_between(start_, now)};
  if (seconds_between(last_draw_, now) < kSecondsPerDraw) return;
  last_draw_ = now;
  draw();
}

void ProgressBar::print_above(const std::function<void()>& print) {
  if (is_drawn_) write_(kTakeAway);
  print();
  if (is_drawn_) draw();
}

void ProgressBar::draw() {
  is_drawn_ = true;
  // In the last column a terminal would begin another line.
  write_(std::string(kTakeAway) + progress_line(state_, width_ > 0 ? width_ - 1 : 0));
}

size_t terminal_width() {
  constexpr size_t kUsualWidth = 80;
  if (::isatty(STDERR_FILENO) == 0) return 0;
  winsize size{};
  const bool is_told = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_told ? size.ws_col : kUsualWidth;
}

}  // namespace quire
