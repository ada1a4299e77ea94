#include "engine/kv_cache/prefix_cache.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "kernels/check.h"

namespace quire {
namespace {

using Tokens = std::vector<TokenId>;

const std::string kRoot = "full ";
const std::string kOtherRoot = "full other";

PrefixCache::Key first(uint64_t hash, const Tokens& tokens, const std::string& root = kRoot) {
  return {.hash = hash, .root = &root, .tokens = tokens};
}
PrefixCache::Key after(uint64_t parent_hash, uint64_t hash, const Tokens& tokens) {
  return {.hash = hash, .parent_hash = parent_hash, .tokens = tokens};
}
std::vector<BlockId> evict_all(PrefixCache& cache) {
  std::vector<BlockId> evicted;
  while (const auto block = cache.evict()) {
    evicted.push_back(*block);
    cache.check_integrity();
  }
  return evicted;
}

const Tokens kA{1, 2, 3, 4};
const Tokens kB{5, 6, 7, 8};
const Tokens kC{9, 9, 9, 9};

}  // namespace

TEST_CASE("A block is found by its tokens, its parent and its root, all three", "[prefix_cache]") {
  PrefixCache cache;
  REQUIRE(cache.insert(first(10, kA), BlockId{0}));
  REQUIRE(cache.insert(after(10, 20, kB), BlockId{1}));
  CHECK(cache.find(first(10, kA)) == BlockId{0});
  CHECK(cache.find(after(10, 20, kB)) == BlockId{1});

  CHECK_FALSE(cache.find(first(11, kA)));              // no such hash
  CHECK_FALSE(cache.find(first(10, kB)));              // from here on: the same hash,
  CHECK_FALSE(cache.find(first(10, {1, 2, 3})));       // something else
  CHECK_FALSE(cache.find(first(10, kA, kOtherRoot)));  //
  CHECK_FALSE(cache.find(after(0, 10, kA)));           //
  CHECK_FALSE(cache.find(after(10, 20, kA)));          //
  CHECK_FALSE(cache.find(after(11, 20, kB)));          //
  CHECK_FALSE(cache.find(first(20, kB)));              //
  cache.check_integrity();
}

TEST_CASE("Of two blocks with one hash only the first is published", "[prefix_cache]") {
  PrefixCache cache;
  REQUIRE(cache.insert(first(10, kA), BlockId{0}));
  CHECK_FALSE(cache.insert(first(10, kB), BlockId{1}));
  CHECK(cache.find(first(10, kA)) == BlockId{0});
  CHECK_FALSE(cache.contains(BlockId{1}));
  CHECK(cache.num_entries() == 1);
  cache.check_integrity();
}

TEST_CASE("A child without its parent and a block in two places are refused", "[prefix_cache]") {
  PrefixCache cache;
  CHECK_THROWS_AS(cache.insert(after(10, 20, kB), BlockId{0}), ContractError);
  CHECK_FALSE(cache.find(after(10, 20, kB)));
  REQUIRE(cache.insert(first(30, kA), BlockId{0}));
  CHECK_THROWS_AS(cache.insert(first(40, kB), BlockId{0}), ContractError);
  CHECK_FALSE(cache.find(first(40, kB)));
  cache.check_integrity();
}

TEST_CASE("Only unreferenced blocks are evicted, the least recently used first", "[prefix_cache]") {
  PrefixCache cache;
  for (int32_t i = 0; i < 4; ++i) {
    REQUIRE(cache.insert(first(100 + static_cast<uint64_t>(i), {i}), BlockId{i}));
  }
  CHECK(evict_all(cache).empty());
  cache.set_evictable(BlockId{2}, true);
  cache.set_evictable(BlockId{0}, true);
  cache.set_evictable(BlockId{3}, true);
  cache.set_evictable(BlockId{2}, false);  // used once more
  cache.set_evictable(BlockId{2}, true);
  CHECK(cache.num_unreferenced() == 3);
  CHECK(evict_all(cache) == std::vector{BlockId{0}, BlockId{3}, BlockId{2}});
  CHECK(cache.contains(BlockId{1}));
  CHECK_FALSE(cache.find(first(100, {0})));
}

TEST_CASE("A parent is evicted after its last child, however long unused", "[prefix_cache]") {
  PrefixCache cache;
  REQUIRE(cache.insert(first(10, kA), BlockId{0}));
  REQUIRE(cache.insert(after(10, 20, kB), BlockId{1}));
  REQUIRE(cache.insert(after(10, 30, kC), BlockId{2}));
  REQUIRE(cache.insert(after(30, 40, kA), BlockId{3}));
  for (const int32_t block : {0, 2, 3, 1}) cache.set_evictable(BlockId{block}, true);
  CHECK(evict_all(cache) == std::vector{BlockId{3}, BlockId{2}, BlockId{1}, BlockId{0}});
  CHECK(cache.num_entries() == 0);
}

TEST_CASE("A new child keeps its unreferenced parent", "[prefix_cache]") {
  PrefixCache cache;
  REQUIRE(cache.insert(first(10, kA), BlockId{0}));
  REQUIRE(cache.insert(after(10, 20, kB), BlockId{1}));
  for (const int32_t block : {1, 0}) cache.set_evictable(BlockId{block}, true);
  REQUIRE(cache.evict() == BlockId{1});
  for (const int32_t block : {0}) cache.set_evictable(BlockId{block}, false);
  REQUIRE(cache.insert(after(10, 20, kB), BlockId{5}));
  CHECK(evict_all(cache).empty());
  CHECK(cache.find(after(10, 20, kB)) == BlockId{5});
}

TEST_CASE("The block hash depends on the parent, on every token and on their order",
          "[prefix_cache]") {
  const uint64_t hash = hash_block(1, kA);
  CHECK(hash == hash_block(1, kA));
  CHECK(hash != hash_block(2, kA));
  CHECK(hash != hash_block(1, Tokens{1, 2, 3, 5}));
  CHECK(hash != hash_block(1, Tokens{2, 1, 3, 4}));
  CHECK(hash != hash_block(1, Tokens{1, 2, 3, 4, 0}));
}

}  // namespace quire
