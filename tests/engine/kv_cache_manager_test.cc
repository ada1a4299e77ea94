#include "engine/kv_cache/kv_cache_manager.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "engine/scheduler/sequence.h"
#include "kernels/check.h"
#include "tests/engine/sequences.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

struct Rig {
  explicit Rig(int32_t num_blocks = 16, BlockHasher hasher = hash_block)
      : cache(num_blocks, kBlockSize, true, metrics, std::move(hasher)) {}

  Sequence& make(std::vector<TokenId> prompt) {
    sequences.push_back(sequence_of(sequences.size() + 1, std::move(prompt)));
    return *sequences.back();
  }
  /// Computes `num_tokens` more tokens in one successful step.
  void compute(Sequence& sequence, int32_t num_tokens) {
    REQUIRE(cache.reserve(sequence, num_tokens));
    cache.commit(sequence, num_tokens);
    check();
  }
  Sequence& run_and_release(std::vector<TokenId> prompt) {
    Sequence& sequence = make(std::move(prompt));
    compute(sequence, sequence.num_tokens());
    cache.release(sequence);
    return sequence;
  }
  int32_t match(Sequence& sequence) {
    const CachedPrefix forecast = cache.cached_prefix(sequence);
    const int32_t num_cached = cache.match_prefix(sequence);
    CHECK(forecast.num_blocks * kBlockSize == num_cached);
    check();
    return num_cached;
  }
  void check() const {
    std::vector<const Sequence*> live;
    for (const auto& sequence : sequences) live.push_back(sequence.get());
    cache.check_integrity(live);
  }

  EngineMetrics metrics;
  KvCacheManager cache;
  std::vector<std::unique_ptr<Sequence>> sequences;
};

std::vector<BlockId> blocks_of(const Sequence& sequence) { return sequence.block_table.block_ids; }

}  // namespace

TEST_CASE("Blocks are reserved as tokens need them, all or nothing", "[kv_cache_manager]") {
  Rig rig(4);
  Sequence& a = rig.make(ramp(12));
  CHECK(rig.cache.reserve(a, 5));
  CHECK(a.block_table.num_blocks() == 2);
  CHECK(rig.cache.reserve(a, 8));  // the same two blocks
  CHECK(a.block_table.num_blocks() == 2);
  Sequence& b = rig.make(ramp(12, 100));
  CHECK_FALSE(rig.cache.reserve(b, 9));
  CHECK(b.block_table.num_blocks() == 0);
  CHECK(rig.cache.num_allocatable() == 2);
  CHECK(rig.cache.reserve(b, 8));
  CHECK_FALSE(rig.cache.reserve(a, 9));
  rig.check();
}

TEST_CASE("Full blocks of a finished prompt are found again, its last token never",
          "[kv_cache_manager]") {
  Rig rig;
  Sequence& first = rig.make(ramp(10));
  rig.compute(first, 10);
  const std::vector<BlockId> blocks = blocks_of(first);
  rig.cache.release(first);
  rig.cache.release(first);  // idempotent
  CHECK(rig.cache.num_allocatable() == 16);
  CHECK(rig.metrics.blocks_cached.value() == 2);

  Sequence& same = rig.make(ramp(10));
  CHECK(rig.match(same) == 8);
  CHECK(blocks_of(same) == std::vector{blocks[0], blocks[1]});
  CHECK(same.num_computed_tokens == 8);

  Sequence& exactly_cached = rig.make(ramp(8));
  CHECK(rig.match(exactly_cached) == 4);  // token 7 must be computed for the logits behind it
  Sequence& longer = rig.make(ramp(30));
  CHECK(rig.match(longer) == 8);
  std::vector<TokenId> differs = ramp(10);
  differs[7] = 999;
  CHECK(rig.match(rig.make(differs)) == 4);
  differs[0] = 999;
  CHECK(rig.match(rig.make(differs)) == 0);
  CHECK(rig.match(rig.make({7})) == 0);
}

TEST_CASE("Tokens that no step has committed are nobody's to share", "[kv_cache_manager]") {
  Rig rig;
  Sequence& failed = rig.make(ramp(12));
  rig.compute(failed, 4);
  REQUIRE(rig.cache.reserve(failed, 8));  // planned, and the step failed
  rig.cache.release(failed);
  rig.check();
  CHECK(rig.match(rig.make(ramp(12))) == 4);
}

TEST_CASE("Salt, rope set, attention mode and top-k of the prefill separate what is shared",
          "[kv_cache_manager]") {
  Rig rig;
  const auto with = [&](const char* salt, PhaseAttention attention,
                        int32_t rope_set = 0) -> Sequence& {
    Sequence& sequence = rig.make(ramp(9));
    sequence.rope_set = rope_set;
    sequence.request.cache_salt = salt;
    sequence.prefill_attention = sequence.decode_attention = attention;
    return sequence;
  };
  const PhaseAttention moba{AttentionMode::kMoba, 2}, wider{AttentionMode::kMoba, 3},
      full{AttentionMode::kFull, 0};
  Sequence& original = with("", moba);
  rig.compute(original, 9);
  CHECK(rig.match(with("", wider)) == 0);
  CHECK(rig.match(with("", full)) == 0);
  CHECK(rig.match(with("tenant", moba)) == 0);
  CHECK(rig.match(with(" ", moba)) == 0);
  CHECK(rig.match(with("", moba, 1)) == 0);
  // No salt looks like another set.
  rig.compute(with("tenant", moba, 1), 9);
  for (const char* salt : {"tenant", "1 tenant", "rope 1 tenant"}) {
    CHECK(rig.match(with(salt, moba)) == 0);
  }
  CHECK(rig.match(with("tenant", moba, 1)) == 8);
  CHECK(rig.match(with("", moba)) == 8);
}

TEST_CASE("Completion tokens are shared, in both directions, only where phases attend alike",
          "[kv_cache_manager]") {
  Rig rig;
  const bool alike = GENERATE(true, false);
  const PhaseAttention moba{AttentionMode::kMoba, 2}, full{AttentionMode::kFull, 0};
  const auto conversation = [&](int32_t num_prompt_tokens) -> Sequence& {
    Sequence& sequence = rig.make(ramp(14));
    sequence.num_prompt_tokens = num_prompt_tokens;
    sequence.prefill_attention = moba;
    sequence.decode_attention = alike ? moba : full;
    return sequence;
  };
  Sequence& answered = conversation(6);  // block 0: prompt; 1: both; 2: completion
  rig.compute(answered, 6);
  for (int i = 0; i < 7; ++i) rig.compute(answered, 1);
  CHECK(rig.match(conversation(14)) == (alike ? 12 : 4));

  // The other way round: all three blocks computed as a prompt, wanted by a preempted completion.
  Sequence& as_prompt = conversation(14);
  CHECK(rig.cache.match_prefix(as_prompt) == (alike ? 12 : 4));
  rig.compute(as_prompt, as_prompt.num_pending_tokens());
  CHECK(rig.match(conversation(6)) == (alike ? 12 : 4));
}

TEST_CASE("Colliding hashes never share a block of other tokens", "[kv_cache_manager]") {
  const auto hasher =
      GENERATE(BlockHasher([](uint64_t, std::span<const TokenId>) { return uint64_t{7}; }),
               BlockHasher([](uint64_t parent, std::span<const TokenId> t) {
                 return parent % 3 + static_cast<uint64_t>(t[0] % 2);
               }),
               BlockHasher([](uint64_t, std::span<const TokenId> t) { return hash_block(0, t); }));
  Rig rig(64, hasher);
  std::minstd_rand random(5);
  std::vector<std::vector<TokenId>> content(64);  // all tokens up to the end of a sealed block
  for (int i = 0; i < 400; ++i) {
    std::vector<TokenId> prompt(1 + random() % 13);
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 2);
    Sequence& sequence = rig.make(prompt);
    const int32_t num_cached = rig.cache.match_prefix(sequence);
    for (int32_t b = 0; b < num_cached / kBlockSize; ++b) {
      const auto block = static_cast<size_t>(to_index(blocks_of(sequence)[static_cast<size_t>(b)]));
      const std::vector<TokenId> expected(prompt.begin(), prompt.begin() + (b + 1) * kBlockSize);
      REQUIRE(content[block] == expected);
    }
    rig.compute(sequence, sequence.num_pending_tokens());
    for (size_t b = 0; b < prompt.size() / kBlockSize; ++b) {
      const auto end = prompt.begin() + static_cast<std::ptrdiff_t>((b + 1) * kBlockSize);
      content[static_cast<size_t>(to_index(blocks_of(sequence)[b]))].assign(prompt.begin(), end);
    }
    rig.cache.release(sequence);
  }
}

TEST_CASE("Equal blocks computed side by side become one", "[kv_cache_manager]") {
  Rig rig;
  Sequence& a = rig.make(ramp(9));
  Sequence& b = rig.make(ramp(9));
  REQUIRE(rig.cache.reserve(a, 9));
  REQUIRE(rig.cache.reserve(b, 9));
  rig.cache.commit(a, 9);
  rig.cache.commit(b, 9);
  rig.check();
  CHECK(blocks_of(a)[0] == blocks_of(b)[0]);
  CHECK(blocks_of(a)[1] == blocks_of(b)[1]);
  CHECK(blocks_of(a)[2] != blocks_of(b)[2]);  // open: one sequence's own
  CHECK(rig.cache.num_allocatable() == 16 - 4);
}

TEST_CASE("Cached blocks give way to new ones, the longest unused tails first",
          "[kv_cache_manager]") {
  Rig rig(6);
  rig.run_and_release(ramp(12));
  rig.run_and_release(ramp(12, 100));
  CHECK(rig.metrics.blocks_free.value() == 0);
  Sequence& new_one = rig.make(ramp(8, 200));
  rig.compute(new_one, 8);
  CHECK(rig.metrics.blocks_evicted.value() == 2);
  CHECK(rig.match(rig.make(ramp(13))) == 4);  // its head is still there
  CHECK(rig.match(rig.make(ramp(13, 100))) == 12);
}

TEST_CASE("The forecast of a prefix is what matching finds, and room is counted exactly",
          "[kv_cache_manager]") {
  std::minstd_rand random(11);
  for (int round = 0; round < 60; ++round) {
    Rig rig(12);
    const auto prompt = [&] {
      std::vector<TokenId> tokens = ramp(1 + static_cast<int32_t>(random() % 24));
      if (random() % 2 == 0) tokens[random() % tokens.size()] = 99;
      return tokens;
    };
    for (int i = 0; i < 6; ++i) {
      Sequence& sequence = rig.make(prompt());
      rig.cache.match_prefix(sequence);
      if (rig.cache.reserve(sequence, sequence.num_pending_tokens())) {
        rig.cache.commit(sequence, sequence.num_pending_tokens());
      } else {
        rig.cache.release(sequence);
      }
      if (random() % 2 == 0) rig.cache.release(sequence);
    }
    Sequence& waiting = rig.make(prompt());
    const CachedPrefix cached = rig.cache.cached_prefix(waiting);
    const int32_t num_evictable_before = rig.cache.num_allocatable();
    const bool has_room = rig.cache.has_room_for(waiting, cached, 2);
    CHECK(rig.match(waiting) == cached.num_blocks * kBlockSize);
    CHECK(num_evictable_before - rig.cache.num_allocatable() ==
          cached.num_blocks - cached.num_referenced);
    const int32_t num_missing =
        rig.cache.num_blocks_for(waiting.num_tokens()) - waiting.block_table.num_blocks();
    CHECK(has_room == (num_missing + 2 <= rig.cache.num_allocatable()));
  }
}

TEST_CASE("A running sequence announces the blocks it is going to publish", "[kv_cache_manager]") {
  Rig rig;
  Sequence& running = rig.make(ramp(14));
  REQUIRE(rig.cache.reserve(running, 14));
  rig.cache.commit(running, 5);
  Sequence& same = rig.make(ramp(14));
  CHECK(rig.cache.is_computing_block(running, same, 1));
  CHECK(rig.cache.is_computing_block(running, same, 2));
  CHECK_FALSE(rig.cache.is_computing_block(running, same, 0));  // published already
  CHECK_FALSE(rig.cache.is_computing_block(running, same, 3));  // never full
  std::vector<TokenId> differs = ramp(14);
  differs[6] = 99;
  CHECK_FALSE(rig.cache.is_computing_block(running, rig.make(differs), 1));
  CHECK_FALSE(rig.cache.is_computing_block(running, rig.make(differs), 2));
  CHECK_FALSE(rig.cache.is_computing_block(running, rig.make(ramp(12)), 2));  // its last token
  Sequence& salted = rig.make(ramp(14));
  salted.request.cache_salt = "tenant";
  CHECK_FALSE(rig.cache.is_computing_block(running, salted, 1));
}

TEST_CASE("Without a prefix cache nothing is shared or kept", "[kv_cache_manager]") {
  EngineMetrics metrics;
  KvCacheManager cache(8, kBlockSize, false, metrics);
  const auto a = sequence_of(1, ramp(9));
  const auto b = sequence_of(2, ramp(9));
  REQUIRE(cache.reserve(*a, 9));
  cache.commit(*a, 9);
  CHECK(cache.cached_prefix(*b).num_blocks == 0);
  CHECK(cache.match_prefix(*b) == 0);
  CHECK_FALSE(cache.is_computing_block(*a, *b, 2));
  cache.release(*a);
  CHECK(metrics.blocks_free.value() == 8);
}

TEST_CASE("Broken bookkeeping does not pass the integrity check", "[kv_cache_manager]") {
  Rig rig;
  Sequence& a = rig.make(ramp(9));
  rig.compute(a, 9);
  Sequence& b = rig.make(ramp(9, 50));
  rig.compute(b, 9);
  const auto is_broken = [&] {
    try {
      rig.check();
      return false;
    } catch (const ContractError&) {
      return true;
    }
  };
  REQUIRE_FALSE(is_broken());
  const BlockTable intact = a.block_table;
  a.block_table.block_ids.pop_back();
  CHECK(is_broken());
  a.block_table = intact;
  a.block_table.block_ids[2] = blocks_of(b)[2];
  CHECK(is_broken());
  a.block_table = intact;
  a.num_published_blocks = 1;
  CHECK(is_broken());
  a.num_published_blocks = 2;
  a.num_computed_tokens = 13;
  CHECK(is_broken());
  a.num_computed_tokens = 9;
  CHECK_FALSE(is_broken());
  const std::vector<const Sequence*> without_a{&b};
  CHECK_THROWS_AS(rig.cache.check_integrity(without_a), ContractError);
}

}  // namespace quire
