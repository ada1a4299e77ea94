#include "kernels/cpu/kv_tile.h"

#include "kernels/cpu/int8_kv.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {
namespace {

template <class T>
const T* row_of(const ConstTensorView& rows, const TilePlace& place, int64_t j) {
  return reinterpret_cast<const T*>(
      address(rows, place.block, place.kv_head, place.first_token + j));
}

}  // namespace

void KvTile::reserve(int64_t head_dim) {
  head_dim_ = head_dim;
  keys_.resize(static_cast<size_t>(packed_keys_size(head_dim)));
  values_.resize(static_cast<size_t>(packed_values_size(head_dim)));
}

void KvTile::load(const PagedKvView& kv, const TilePlace& place, int64_t num_keys,
                  const TilePlace& upcoming) {
  num_keys_ = num_keys;
  is_packed_ = false;
  if (kv.is_int8()) return widen(kv, place, upcoming);
  key_scales_.clear();
  rows_ = {.keys = row_of<BFloat16>(kv.k, place, 0),
           .upcoming_keys = row_of<BFloat16>(kv.k, upcoming, 0),
           .values = row_of<BFloat16>(kv.v, place, 0),
           .upcoming_values = row_of<BFloat16>(kv.v, upcoming, 0),
           .key_stride = kv.k.stride[2],
           .value_stride = kv.v.stride[2]};
}

void KvTile::widen(const PagedKvView& kv, const TilePlace& place, const TilePlace& upcoming) {
  wide_keys_.resize(static_cast<size_t>(kTileKeys * head_dim_));
  wide_values_.resize(static_cast<size_t>(kTileKeys * head_dim_));
  key_scales_.resize(static_cast<size_t>(kTileKeys));
  for (int64_t j = 0; j < num_keys_; ++j) {
    for (int64_t i = 0; i < head_dim_; i += 64) {
      __builtin_prefetch(row_of<int8_t>(kv.k, upcoming, j) + i, 0, 2);
      __builtin_prefetch(row_of<int8_t>(kv.v, upcoming, j) + i, 0, 2);
    }
    dequantise_kv_row(row_of<int8_t>(kv.k, place, j), 1.0f, head_dim_,
                      wide_keys_.data() + j * head_dim_);
    dequantise_kv_row(row_of<int8_t>(kv.v, place, j),
                      quire::to_float(*row_of<BFloat16>(kv.v_scales, place, j)), head_dim_,
                      wide_values_.data() + j * head_dim_);
    key_scales_[static_cast<size_t>(j)] = quire::to_float(*row_of<BFloat16>(kv.k_scales, place, j));
  }
  rows_ = {.keys = wide_keys_.data(),
           .upcoming_keys = wide_keys_.data(),
           .values = wide_values_.data(),
           .upcoming_values = wide_values_.data(),
           .key_stride = head_dim_,
           .value_stride = head_dim_};
}

void KvTile::pack() {
  const BFloat16* keys[kTileKeys];
  const BFloat16* values[kTileKeys];
  for (int64_t j = 0; j < num_keys_; ++j) {
    keys[j] = rows_.keys + j * rows_.key_stride;
    values[j] = rows_.values + j * rows_.value_stride;
  }
  pack_keys(keys, num_keys_, head_dim_, keys_.data());
  pack_values(values, num_keys_, head_dim_, values_.data());
  is_packed_ = true;
}

void KvTile::attend(AttendTile rows) {
  rows.head_dim = head_dim_;
  rows.num_keys = num_keys_;
  rows.key_scales = key_scales_.empty() ? nullptr : key_scales_.data();
  if (attends_in_place(rows)) return attend_in_place(rows, rows_);
  if (!is_packed_) pack();
  rows.keys = keys_.data();
  rows.values = values_.data();
  attend_tile(rows);
}

}  // namespace quire::cpu
