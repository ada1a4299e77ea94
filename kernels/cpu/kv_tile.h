#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_tile.h"
#include "kernels/paged_kv.h"

namespace quire::cpu {

/// Where a tile begins: a token of a block, for one KV head.
struct TilePlace {
  int64_t block, kv_head, first_token;
};

/// Keys and values of up to kTileKeys tokens of one block and KV head, as attend_tile reads them:
/// the one place that knows how the cache stores them. One per thread. They are packed when rows
/// come that need it.
///
/// An int8 key is packed as the integers that it is, and its scale multiplies its scores, which is
/// exact. An int8 value is packed as bf16(integer * scale): a rounding as fine as that of the
/// weights, once per tile instead of once per weight.
class KvTile {
 public:
  /// Makes room for tiles of this size; keeps what it has.
  void reserve(int64_t head_dim);

  /// Takes num_keys tokens from `place` on. `upcoming`: the place that will be asked for next, or
  /// `place` again; may be a wrong guess, which costs time only.
  void load(const PagedKvView& kv, const TilePlace& place, int64_t num_keys,
            const TilePlace& upcoming);

  /// Folds the loaded tile into the state of `rows`, whose tile members this fills in.
  void attend(AttendTile rows);

 private:
  void widen(const PagedKvView& kv, const TilePlace& place, const TilePlace& upcoming);
  void pack();

  int64_t head_dim_ = 0;
  int64_t num_keys_ = 0;
  bool is_packed_ = false;
  TileRowsInPlace rows_;              // in the cache, or wide
  std::vector<float> keys_, values_;  // packed
  // Of an int8 cache: its rows as bf16, and each key's scale.
  std::vector<BFloat16> wide_keys_, wide_values_;  // [kTileKeys, head_dim]
  std::vector<float> key_scales_;                  // [kTileKeys]; empty beside bf16 keys
};

}  // namespace quire::cpu
