#include "engine/kv_cache/block_pool.h"

#include <catch2/catch.hpp>
#include <set>

#include "kernels/check.h"

namespace quire {

TEST_CASE("The pool hands out every block once, then none", "[block_pool]") {
  BlockPool pool(5);
  std::set<BlockId> taken;
  for (int i = 0; i < 5; ++i) {
    const std::optional<BlockId> block = pool.allocate();
    REQUIRE(block.has_value());
    CHECK(to_index(*block) >= 0);
    CHECK(to_index(*block) < 5);
    CHECK(pool.num_references(*block) == 1);
    taken.insert(*block);
  }
  CHECK(taken.size() == 5);
  CHECK(pool.num_free() == 0);
  CHECK_FALSE(pool.allocate().has_value());
}

TEST_CASE("A block is free only after its last reference went and it was freed", "[block_pool]") {
  BlockPool pool(1);
  const BlockId block = *pool.allocate();
  pool.retain(block);
  CHECK(pool.release(block) == 1);
  CHECK_THROWS_AS(pool.free(block), ContractError);
  CHECK(pool.release(block) == 0);
  CHECK_FALSE(pool.is_free(block));
  CHECK_FALSE(pool.allocate().has_value());  // unreferenced, but the prefix cache may keep it
  pool.retain(block);
  CHECK(pool.release(block) == 0);
  pool.free(block);
  CHECK(pool.is_free(block));
  CHECK(pool.allocate() == block);
}

TEST_CASE("Miscounting is caught where it happens", "[block_pool]") {
  BlockPool pool(2);
  const BlockId block = *pool.allocate();
  pool.release(block);
  CHECK_THROWS_AS(pool.release(block), ContractError);
  pool.free(block);
  CHECK_THROWS_AS(pool.free(block), ContractError);
  CHECK_THROWS_AS(pool.release(block), ContractError);
  CHECK_THROWS_AS(pool.retain(block), ContractError);
  CHECK_THROWS_AS(pool.retain(BlockId::kNone), ContractError);
  CHECK_THROWS_AS(pool.retain(BlockId{2}), ContractError);
  CHECK(pool.num_free() == 2);
  CHECK_THROWS_AS(BlockPool(-1), ContractError);
}

}  // namespace quire
