#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_tile.h"
#include "kernels/paged_kv.h"

namespace quire::cpu {

/// Keys and values of up to kTileKeys tokens of one block and KV head, as attend_tile reads them:
/// the one place that knows how the cache stores them. One per thread.
///
/// An int8 key is packed as the integers that it is, and its scale multiplies its scores, which is
/// exact. An int8 value is packed as bf16(integer * scale): a rounding as fine as that of the
/// weights, once per tile instead of once per weight.
class KvTile {
 public:
  /// Makes room for tiles of this size; keeps what it has.
  void reserve(int64_t head_dim);

  /// Loads tokens [first, first + num_keys) of a block.
  void load(const PagedKvView& kv, int64_t block, int64_t kv_head, int64_t first, int64_t num_keys);

  /// Folds the loaded tile into the state of `rows`, whose tile members this fills in.
  void attend(AttendTile rows) const;

 private:
  const BFloat16* widen_key(const PagedKvView& kv, int64_t block, int64_t kv_head, int64_t offset,
                            int64_t j);
  const BFloat16* widen_value(const PagedKvView& kv, int64_t block, int64_t kv_head, int64_t offset,
                              int64_t j);

  int64_t head_dim_ = 0;
  int64_t num_keys_ = 0;
  std::vector<float> keys_, values_;  // packed
  // Of an int8 cache: its rows as bf16, and each key's scale.
  std::vector<BFloat16> wide_keys_, wide_values_;  // [kTileKeys, head_dim]
  std::vector<float> key_scales_;                  // [kTileKeys]; empty beside bf16 keys
};

}  // namespace quire::cpu
