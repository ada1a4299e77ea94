#include "kernels/cpu/kv_tile.h"

#include "kernels/cpu/int8_kv.h"
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
  key_scales_.resize(kv.is_int8() ? kTileKeys : 0);
  for (int64_t j = 0; j < num_keys; ++j) {
    if (kv.is_int8()) {
      keys[j] = widen_key(kv, block, kv_head, first + j, j);
      values[j] = widen_value(kv, block, kv_head, first + j, j);
      continue;
    }
    keys[j] = reinterpret_cast<const BFloat16*>(address(kv.k, block, kv_head, first + j));
    values[j] = reinterpret_cast<const BFloat16*>(address(kv.v, block, kv_head, first + j));
  }
  pack_keys(keys, num_keys, head_dim_, keys_.data());
  pack_values(values, num_keys, head_dim_, values_.data());
  num_keys_ = num_keys;
}

const BFloat16* KvTile::widen_key(const PagedKvView& kv, int64_t block, int64_t kv_head,
                                  int64_t offset, int64_t j) {
  wide_keys_.resize(static_cast<size_t>(kTileKeys * head_dim_));
  BFloat16* wide = wide_keys_.data() + j * head_dim_;
  dequantize_row(reinterpret_cast<const int8_t*>(address(kv.k, block, kv_head, offset)), 1.0f,
                 head_dim_, wide);
  key_scales_[static_cast<size_t>(j)] = quire::to_float(
      *reinterpret_cast<const BFloat16*>(address(kv.k_scales, block, kv_head, offset)));
  return wide;
}

const BFloat16* KvTile::widen_value(const PagedKvView& kv, int64_t block, int64_t kv_head,
                                    int64_t offset, int64_t j) {
  wide_values_.resize(static_cast<size_t>(kTileKeys * head_dim_));
  BFloat16* wide = wide_values_.data() + j * head_dim_;
  const auto* scale =
      reinterpret_cast<const BFloat16*>(address(kv.v_scales, block, kv_head, offset));
  dequantize_row(reinterpret_cast<const int8_t*>(address(kv.v, block, kv_head, offset)),
                 quire::to_float(*scale), head_dim_, wide);
  return wide;
}

void KvTile::attend(AttendTile rows) const {
  rows.head_dim = head_dim_;
  rows.num_keys = num_keys_;
  rows.keys = keys_.data();
  rows.key_scales = key_scales_.empty() ? nullptr : key_scales_.data();
  rows.values = values_.data();
  attend_tile(rows);
}

}  // namespace quire::cpu
