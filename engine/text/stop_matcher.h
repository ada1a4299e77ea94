#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// Finds stop strings in streamed text, across token boundaries. Text that may still become a stop
/// string is held back. One per sequence, not thread-safe.
class StopMatcher {
 public:
  /// Empty strings are not allowed. The first match in the text wins; of matches that start at the
  /// same place, the shortest.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  struct Output {
    std::string text;      // safe to send
    bool stopped = false;  // a stop string was found; it and what follows are dropped
  };
  Output push(std::string_view text);
  /// What was held back, when the generation ends without a match.
  std::string flush();

 private:
  std::vector<std::string> stop_strings_;
  std::string held_back_;
};

}  // namespace quire
