#include "engine/text/stop_matcher.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/text/incremental_decoder.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "kernels/check.h"

namespace quire {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << '"' << outcome.text << '"' << (outcome.stopped ? " stopped" : "");
}

/// Pushes `text` in pieces of 1 to `max_piece` bytes.
Outcome run(StopMatcher matcher, std::string_view text, std::mt19937& random, size_t max_piece) {
  Outcome outcome;
  while (!text.empty()) {
    const size_t num_bytes = std::min(text.size(), 1 + random() % max_piece);
    const StopMatcher::Output output = matcher.push(text.substr(0, num_bytes));
    outcome.text += output.text;
    outcome.stopped = output.stopped;
    if (output.stopped) break;
    text.remove_prefix(num_bytes);
  }
  outcome.text += matcher.flush();
  return outcome;
}

/// The definition, by trying every end and every stop string.
Outcome expected(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

}  // namespace

TEST_CASE("StopMatcher: a stop string across pushes ends the text before it") {
  StopMatcher matcher({"\nUser:"});
  CHECK(matcher.push("Hello").text == "Hello");
  CHECK(matcher.push("\nUs").text.empty());
  const StopMatcher::Output output = matcher.push("er: more");
  CHECK(output.text.empty());
  CHECK(output.stopped);
  CHECK(matcher.flush().empty());
}

TEST_CASE("StopMatcher: holds back no more than what may become a stop string") {
  StopMatcher matcher({"abab!", "bx"});
  CHECK(matcher.push("zab").text == "z");
  CHECK(matcher.push("aba").text == "ab");  // "aba" may go on to "abab!"
  CHECK(matcher.push("c").text == "abac");
  CHECK(matcher.push("ab").text.empty());
  CHECK(matcher.flush() == "ab");
}

TEST_CASE("StopMatcher: the match complete first wins, of those that end together the longest") {
  std::mt19937 random(1);
  CHECK(run(StopMatcher({"abcd", "bc"}), "xabcd", random, 9) == Outcome{"xa", true});
  CHECK(run(StopMatcher({"bc", "abc"}), "xabc", random, 9) == Outcome{"x", true});
  CHECK(run(StopMatcher({"ab", "abc"}), "xabc", random, 9) == Outcome{"x", true});
  CHECK(run(StopMatcher({"stop", "stop"}), "no stop", random, 2) == Outcome{"no ", true});
}

TEST_CASE("StopMatcher: without stop strings everything passes at once") {
  StopMatcher matcher({});
  CHECK(matcher.push("anything").text == "anything");
  CHECK(matcher.flush().empty());
}

TEST_CASE("StopMatcher: an empty stop string is a broken contract") {
  CHECK_THROWS_AS(StopMatcher({"a", ""}), ContractError);
}

TEST_CASE("StopMatcher: agrees with the definition however the text is cut") {
  std::mt19937 random(8);
  for (int round = 0; round < 3000; ++round) {
    const auto random_text = [&](size_t max_bytes) {
      std::string text;
      for (size_t i = 1 + random() % max_bytes; i > 0; --i) text += "aab"[random() % 3];
      return text;
    };
    std::vector<std::string> stops;
    for (size_t i = 1 + random() % 4; i > 0; --i) stops.push_back(random_text(9));
    const std::string text = random_text(60);
    CAPTURE(stops, text);
    CHECK(run(StopMatcher(stops), text, random, 5) == expected(stops, text));
  }
}

TEST_CASE("StopMatcher: whole characters in, whole characters out") {
  StopMatcher matcher({"\u20AC\u20AD", "\u20ACx"});
  CHECK(matcher.push("1\u20AC").text == "1");
  CHECK(matcher.push("\u20AC").text == "\u20AC");
  CHECK(matcher.push("\u20AE").text == "\u20AC\u20AE");
}

TEST_CASE("StopMatcher: long self-similar stop strings and a long text") {
  // Every byte of the text could begin the stop string; restarting at each would be 10^10 steps.
  const std::string stop = std::string(20'000, 'a') + 'b';
  StopMatcher matcher({stop, std::string(10'000, 'a') + 'c'});
  size_t num_sent = 0;
  for (int i = 0; i < 1000; ++i) num_sent += matcher.push(std::string(1000, 'a')).text.size();
  CHECK(num_sent == 1'000'000 - 20'000);
  const StopMatcher::Output output = matcher.push("b");
  CHECK(output.stopped);
  CHECK(output.text.empty());
}

TEST_CASE("StopMatcher: stop strings that begin and end inside tokens") {
  const auto tokenizer = load_tokenizer(QUIRE_BUNDLED_MODEL, 1);
  const std::string text =
      "The cat \u00E9tait l\u00E0, \U0001F600 in the library; the end of the story is near. User: "
      "no.";
  const std::vector<TokenId> ids = tokenizer->encode(text);
  REQUIRE(tokenizer->decode(ids, true) == text);
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const std::string stop =
        replace_invalid_utf8(text.substr(random() % text.size(), 1 + random() % 12));
    IncrementalDecoder decoder(*tokenizer, IncrementalDecoder::SpecialTokens::kSkip,
                               IncrementalDecoder::FirstSpace::kDrop);
    StopMatcher matcher({stop});
    Outcome outcome;
    for (size_t i = 0; i <= ids.size() && !outcome.stopped; ++i) {
      const StopMatcher::Output output =
          matcher.push(i < ids.size() ? decoder.push(ids[i]) : decoder.flush());
      REQUIRE(is_valid_utf8(output.text));
      outcome.text += output.text;
      outcome.stopped = output.stopped;
    }
    outcome.text += matcher.flush();
    CAPTURE(stop);
    CHECK(outcome == expected({stop}, text));
  }
}

}  // namespace quire
