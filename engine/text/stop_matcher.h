#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// Finds stop strings in streamed text, across token boundaries. Text that may still become a stop
/// string is held back. Each byte costs a constant number of steps per stop string
/// (Knuth-Morris-Pratt), whatever the strings look like. One per sequence, not thread-safe.
class StopMatcher {
 public:
  /// The match that is complete first wins; of matches that end at the same place, the longest.
  /// REQUIRES: no string is empty; all are valid UTF-8.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  struct Output {
    std::string text;      // safe to send, whole characters if whole characters came in
    bool stopped = false;  // a stop string was found; it and what follows are dropped
  };
  /// REQUIRES: no earlier call has stopped.
  Output push(std::string_view text);
  /// What was held back, when the generation ends without a match.
  std::string flush();

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // border[i]: longest proper border of the first i bytes
    size_t num_matched = 0;      // bytes of `text` that the input ends with
  };

  static void advance(Pattern& pattern, char byte);

  std::vector<Pattern> patterns_;
  std::string held_back_;
};

}  // namespace quire
