#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/attention_tile.h"
#include "kernels/paged_kv.h"

namespace quire::cpu {

/// Keys and values of up to kTileKeys tokens of one block and KV head, as attend_tile reads them:
/// the one place that knows how the cache stores them. One per thread.
class KvTile {
 public:
  /// Makes room for tiles of this size; keeps what it has.
  void reserve(int64_t head_dim);

  /// Loads tokens [first, first + num_keys) of a block.
  void load(const PagedKvView& kv, int64_t block, int64_t kv_head, int64_t first, int64_t num_keys);

  /// Folds the loaded tile into the state of `rows`, whose tile members this fills in.
  void attend(AttendTile rows) const;

 private:
  int64_t head_dim_ = 0;
  int64_t num_keys_ = 0;
  std::vector<float> keys_, values_;  // packed
};

}  // namespace quire::cpu
