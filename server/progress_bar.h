#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "engine/core/clock.h"

namespace quire {

/// How far a load has come.
struct LoadState {
  int64_t read_bytes;
  int64_t all_bytes;
  double elapsed_seconds;
};

/// "weights [####    ]  50%, 7.0 of 14.0 GiB, 512 MiB/s, 14 s left": at most `width` characters,
/// all of them ASCII.
std::string progress_line(const LoadState& state, size_t width);

/// That line on a terminal, drawn over itself at most ten times a second. A load that is over
/// before the first of them leaves no trace. For the loading thread.
class ProgressBar {
 public:
  using Write = std::function<void(std::string_view text)>;

  /// `width`: columns of the terminal. The clock must outlive it.
  ProgressBar(const Clock& clock, size_t width, Write write);
  /// Ends the line, so that whatever follows stands on one of its own.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(int64_t read_bytes, int64_t all_bytes);
  /// Takes the line away while `print` prints another above it.
  void print_above(const std::function<void()>& print);

 private:
  void draw();

  const Clock& clock_;
  size_t width_;
  Write write_;
  Clock::TimePoint start_;
  Clock::TimePoint last_draw_;
  LoadState state_{};
  bool is_drawn_ = false;
};

/// Columns of the terminal behind stderr; 0 if there is none.
size_t terminal_width();

}  // namespace quire
