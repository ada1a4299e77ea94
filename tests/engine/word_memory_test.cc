#include "engine/text/word_memory.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

namespace quire {
namespace {

using Ids = std::vector<TokenId>;

Ids found(const WordMemory& memory, const std::string& word) {
  const auto ids = memory.find(word);
  return {ids.begin(), ids.end()};
}

TEST_CASE("WordMemory gives back what fits a place, and nothing for what it was not told") {
  WordMemory memory;
  const std::string longest(WordMemory::kMaxWordBytes, 'w');
  const Ids most(WordMemory::kMaxWordIds, 7), too_many(WordMemory::kMaxWordIds + 1, 7);
  CHECK(memory.remember("a", Ids{3}));
  CHECK(memory.remember(longest, most));
  CHECK_FALSE(memory.remember("many", too_many));
  CHECK_FALSE(memory.remember("none", Ids{}));
  CHECK(found(memory, "a") == Ids{3});
  CHECK(found(memory, longest) == most);
  for (const char* unknown : {"b", "aa", "many", "none"}) CHECK(found(memory, unknown).empty());
  CHECK(found(memory, longest.substr(1)).empty());
}

TEST_CASE("WordMemory: words without a place are refused, those that have one keep it") {
  WordMemory memory;
  std::vector<int> remembered;
  const int num_words = static_cast<int>(WordMemory::kNumSlots) * 2;
  for (int i = 0; i < num_words; ++i) {
    if (memory.remember(std::to_string(i), Ids{i})) remembered.push_back(i);
  }
  CHECK(memory.is_full());
  CHECK(remembered.size() <= WordMemory::kNumSlots);
  CHECK(remembered.size() > WordMemory::kNumSlots / 2);
  CHECK(std::ranges::all_of(remembered,
                            [&](int i) { return found(memory, std::to_string(i)) == Ids{i}; }));
}

TEST_CASE("WordMemory: threads that remember the same words at once all find the right ids") {
  WordMemory memory;
  std::vector<int> num_wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < num_wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 20'000; ++i) {
          const std::string word = std::to_string(i);
          const Ids ids = found(memory, word);
          num_wrong[t] += !ids.empty() && ids != Ids{i, i + 1};
          if (ids.empty()) memory.remember(word, Ids{i, i + 1});
        }
      });
    }
  }
  CHECK(num_wrong == std::vector<int>(4, 0));
  CHECK(found(memory, "19999") == Ids{19'999, 20'000});
}

}  // namespace
}  // namespace quire
