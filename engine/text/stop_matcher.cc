#include "engine/text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace quire {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) {
  for (std::string& text : stop_strings) {
    QUIRE_CHECK(!text.empty()) << "an empty stop string";
    Pattern pattern{.text = std::move(text), .border = {0, 0}, .num_matched = 0};
    for (size_t i = 1; i < pattern.text.size(); ++i) {
      size_t border = pattern.border.back();
      while (border > 0 && pattern.text[border] != pattern.text[i]) {
        border = pattern.border[border];
      }
      pattern.border.push_back(pattern.text[border] == pattern.text[i] ? border + 1 : 0);
    }
    patterns_.push_back(std::move(pattern));
  }
}

void StopMatcher::advance(Pattern& pattern, char byte) {
  size_t& matched = pattern.num_matched;
  while (matched > 0 && pattern.text[matched] != byte) matched = pattern.border[matched];
  if (pattern.text[matched] == byte) ++matched;
}

StopMatcher::Output StopMatcher::push(std::string_view text) {
  if (patterns_.empty()) return {std::string(text), false};
  for (size_t i = 0; i < text.size(); ++i) {
    held_back_ += text[i];
    size_t longest_match = 0;
    for (Pattern& pattern : patterns_) {
      advance(pattern, text[i]);
      if (pattern.num_matched == pattern.text.size()) {
        longest_match = std::max(longest_match, pattern.num_matched);
      }
    }
    if (longest_match > 0) {
      held_back_.resize(held_back_.size() - longest_match);
      return {std::exchange(held_back_, {}), true};
    }
  }
  size_t num_held = 0;
  for (const Pattern& pattern : patterns_) num_held = std::max(num_held, pattern.num_matched);
  Output output{held_back_.substr(0, held_back_.size() - num_held), false};
  held_back_.erase(0, output.text.size());
  return output;
}

std::string StopMatcher::flush() { return std::exchange(held_back_, {}); }

}  // namespace quire
