// Any stop strings and any text, however cut, against the definition: the match that is complete
// first wins, of those that end together the longest.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/stop_matcher.h"

namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

Outcome expected(const std::vector<std::string>& stops, std::string_view text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {std::string(text.substr(0, end - longest)), true};
  }
  return {std::string(text), false};
}

Outcome run(const std::vector<std::string>& stops, std::string_view text, size_t piece_bytes) {
  quire::StopMatcher matcher(stops);
  Outcome outcome;
  while (!text.empty() && !outcome.stopped) {
    const quire::StopMatcher::Output output = matcher.push(text.substr(0, piece_bytes));
    outcome.text += output.text;
    outcome.stopped = output.stopped;
    text.remove_prefix(std::min(text.size(), piece_bytes));
  }
  outcome.text += matcher.flush();
  return outcome;
}

}  // namespace

/// Input: number of stop strings (mod 4), size of a push, each stop string as length (mod 16) and
/// bytes, the text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 4096) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const size_t num_stops = data[0] & 3;
  const size_t piece_bytes = 1 + (data[1] & 15);
  rest.remove_prefix(2);
  std::vector<std::string> stops;
  for (size_t i = 0; i < num_stops && !rest.empty(); ++i) {
    const auto num_bytes = static_cast<size_t>(rest.front() & 15);
    std::string stop(rest.substr(1, num_bytes));
    rest.remove_prefix(std::min(rest.size(), 1 + num_bytes));
    if (!stop.empty()) stops.push_back(std::move(stop));
  }
  if (run(stops, rest, piece_bytes) != expected(stops, rest)) std::abort();
  return 0;
}
