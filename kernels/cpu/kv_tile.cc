#include "kernels/cpu/kv_tile.h"

#include "kernels/cpu/rows.h"

namespace quire::cpu {

void KvTile::reserve(int64_t head_dim) {
  head_dim_ = head_dim;
  keys_.resize(static_cast<size_t>(packed_keys_size(head_dim)));
  values_.resize(static_cast<size_t>(packed_values_size(head_dim)));
}

void KvTile::load(const PagedKvView& kv, int64_t block, int64_t kv_head, int64_t first,
                  int64_t num_keys) {
  const BFloat16* keys[kTileKeys];
  const BFloat16* values[kTileKeys];
  for (int64_t j = 0; j < num_keys; ++j) {
    keys[j] = reinterpret_cast<const BFloat16*>(address(kv.k, block, kv_head, first + j));
    values[j] = reinterpret_cast<const BFloat16*>(address(kv.v, block, kv_head, first + j));
  }
  pack_keys(keys, num_keys, head_dim_, keys_.data());
  pack_values(values, num_keys, head_dim_, values_.data());
  num_keys_ = num_keys;
}

void KvTile::attend(AttendTile rows) const {
  rows.head_dim = head_dim_;
  rows.num_keys = num_keys_;
  rows.keys = keys_.data();
  rows.values = values_.data();
  attend_tile(rows);
}

}  // namespace quire::cpu
