#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/tile.cuh"

// Keys and values of a run in shared memory, a tile at a time, as bf16 that tensor cores multiply.
// What lies in the pool as bf16 is copied into one of two tiles while the other is in use. What
// lies there as integers is copied as it is, into one of two rooms of half the size, and becomes
// bf16, which is exact, when its tile's turn has come; the scales are left to the scores (keys) and
// to the weights (values), as kernels/paged_kv.h allows.

namespace quire::cuda {

/// A pool's keys or values. A row is one token of one KV head: head_dim elements and a scale.
struct CachedRows {
  const void* rows;        // bf16, or integers
  const BFloat16* scales;  // one per row of integers, else nullptr
};

/// A pool as attention reads it.
struct CachedPool {
  CachedRows k, v;
  int head_dim;
  bool is_aligned;  // all rows begin and end at multiples of 16 bytes
};

template <int kHeadDim>
struct KvTileShape {
  static constexpr int kKeys = kHeadDim <= 128 ? 64 : 32;
  static constexpr int kElements = kKeys * kTileStride<kHeadDim>;
  static constexpr size_t kBytes = kElements * sizeof(BFloat16);
};

/// The tiles of one run. In every method all threads of the block take part; `row_of(j)` is the
/// number of key j's row in the pool, or -1 for a key to be read as zeros. `begin` starts to fetch
/// a tile (`begin_first` the first one, the others follow in order); after its copies were waited
/// for, `complete` and a barrier, it may be read, up to the barrier before the next tile's
/// `complete`.
template <int kHeadDim, class Element>
class KvTiles;

template <int kHeadDim>
class KvTiles<kHeadDim, BFloat16> {
 public:
  using Shape = KvTileShape<kHeadDim>;
  static constexpr size_t kSharedBytes = 4 * Shape::kBytes;

  __device__ __forceinline__ KvTiles(const CachedPool& pool, float key_factor,
                                     unsigned char* memory)
      : pool_(pool), key_factor_(key_factor), tiles_(reinterpret_cast<BFloat16*>(memory)) {}

  template <class RowOf>
  __device__ __forceinline__ void begin_first(int tile, int num_keys, const RowOf& row_of) const {
    begin(tile, num_keys, row_of);
  }
  template <class RowOf>
  __device__ __forceinline__ void begin(int tile, int num_keys, const RowOf& row_of) const {
    load(const_cast<BFloat16*>(keys(tile)), pool_.k, tile, num_keys, row_of);
    load(const_cast<BFloat16*>(values(tile)), pool_.v, tile, num_keys, row_of);
  }
  template <class RowOf>
  __device__ __forceinline__ void complete(int, int, const RowOf&) const {}

  __device__ __forceinline__ const BFloat16* keys(int tile) const {
    return tiles_ + tile % 2 * Shape::kElements;
  }
  __device__ __forceinline__ const BFloat16* values(int tile) const {
    return keys(tile) + 2 * Shape::kElements;
  }
  /// What the score of a tile's key is to be multiplied with.
  __device__ __forceinline__ float key_factor(int) const { return key_factor_; }
  /// The weight of a tile's value, as the value's elements are to be multiplied with it.
  __device__ __forceinline__ float weight_of(float weight, int, bool) const { return weight; }

 private:
  template <class RowOf>
  __device__ __forceinline__ void load(BFloat16* to, const CachedRows& from, int tile, int num_keys,
                                       const RowOf& row_of) const {
    const auto* rows = static_cast<const BFloat16*>(from.rows);
    const int first = tile * Shape::kKeys;
    load_tile<Shape::kKeys, kHeadDim>(
        to, pool_.head_dim, pool_.is_aligned, rows, [&](int j) -> const BFloat16* {
          const int64_t row = first + j < num_keys ? row_of(first + j) : -1;
          return row < 0 ? nullptr : rows + row * pool_.head_dim;
        });
  }

  const CachedPool& pool_;
  float key_factor_;
  BFloat16* tiles_;  // two of keys, two of values
};

template <int kHeadDim>
class KvTiles<kHeadDim, int8_t> {
 public:
  using Shape = KvTileShape<kHeadDim>;
  static constexpr int kKeys = Shape::kKeys;
  static constexpr size_t kRoomBytes = kKeys * kHeadDim;
  static constexpr size_t kSharedBytes =
      2 * Shape::kBytes + 4 * kRoomBytes + 2 * kKeys * sizeof(float);

  __device__ __forceinline__ KvTiles(const CachedPool& pool, float key_factor,
                                     unsigned char* memory)
      : pool_(pool),
        key_factor_(key_factor),
        tiles_(reinterpret_cast<BFloat16*>(memory)),
        rooms_(memory + 2 * Shape::kBytes),
        scales_(reinterpret_cast<float*>(rooms_ + 4 * kRoomBytes)) {}

  template <class RowOf>
  __device__ __forceinline__ void begin_first(int tile, int num_keys, const RowOf& row_of) {
    next_scale_ = load_scale(tile, num_keys, row_of);
    begin(tile, num_keys, row_of);
  }
  template <class RowOf>
  __device__ __forceinline__ void begin(int tile, int num_keys, const RowOf& row_of) {
    if (!pool_.is_aligned) return;
    const auto fetch = [&](const CachedRows& from, unsigned char* room) {
      const auto* rows = static_cast<const int8_t*>(from.rows);
      for_own_chunks([&](int j, int column) {
        const int64_t row = row_of_key(tile, j, num_keys, row_of);
        const bool is_valid = row >= 0 && column < pool_.head_dim;
        ptx::copy_async_16(room + j * kHeadDim + column,
                           is_valid ? rows + row * pool_.head_dim + column : rows, is_valid);
      });
    };
    fetch(pool_.k, room_of_keys(tile));
    fetch(pool_.v, room_of_keys(tile) + kRoomBytes);
  }

  template <class RowOf>
  __device__ __forceinline__ void complete(int tile, int num_keys, const RowOf& row_of) {
    if (threadIdx.x < 2 * kKeys) scales_[threadIdx.x] = next_scale_;
    next_scale_ = load_scale(tile + 1, num_keys, row_of);
    if (pool_.is_aligned) {
      widen_room(room_of_keys(tile), tiles_);
      widen_room(room_of_keys(tile) + kRoomBytes, tiles_ + Shape::kElements);
    } else {
      load_elements(pool_.k, tiles_, tile, num_keys, row_of);
      load_elements(pool_.v, tiles_ + Shape::kElements, tile, num_keys, row_of);
    }
  }

  __device__ __forceinline__ const BFloat16* keys(int) const { return tiles_; }
  __device__ __forceinline__ const BFloat16* values(int) const { return tiles_ + Shape::kElements; }
  __device__ __forceinline__ float key_factor(int j) const { return scales_[j]; }
  /// A value that its row does not see may have a scale of NaN.
  __device__ __forceinline__ float weight_of(float weight, int j, bool is_visible) const {
    return is_visible ? weight * scales_[kKeys + j] : 0.0f;
  }

 private:
  template <class RowOf>
  static __device__ __forceinline__ int64_t row_of_key(int tile, int j, int num_keys,
                                                       const RowOf& row_of) {
    const int key = tile * kKeys + j;
    return key < num_keys ? row_of(key) : int64_t{-1};
  }

  /// Pieces of 16 integers; a thread copies and widens the same ones, so no barrier is between.
  template <class Visit>
  static __device__ __forceinline__ void for_own_chunks(const Visit& visit) {
    constexpr int kChunks = kHeadDim / 16;
#pragma unroll(kHeadDim <= 128 ? 4 : 1)
    for (int index = threadIdx.x; index < kKeys * kChunks; index += kTileThreads) {
      visit(index / kChunks, index % kChunks * 16);
    }
  }

  /// Of this thread: one scale of a tile, of keys in the lower half of the threads, then of values.
  template <class RowOf>
  __device__ __forceinline__ float load_scale(int tile, int num_keys, const RowOf& row_of) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread >= 2 * kKeys) return 0.0f;
    const int64_t row = row_of_key(tile, thread % kKeys, num_keys, row_of);
    if (row < 0) return 0.0f;
    return thread < kKeys ? widen(pool_.k.scales[row]) * key_factor_ : widen(pool_.v.scales[row]);
  }

  __device__ __forceinline__ unsigned char* room_of_keys(int tile) const {
    return rooms_ + tile % 2 * 2 * kRoomBytes;
  }

  static __device__ __forceinline__ void widen_room(const unsigned char* room, BFloat16* tile) {
    for_own_chunks([&](int j, int column) {
      const ptx::Words16 packed = ptx::load_shared_16(room + j * kHeadDim + column);
      const auto integer = [&](int i) {
        return static_cast<float>(static_cast<int8_t>(packed.words[i / 4] >> i % 4 * 8));
      };
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        ptx::Words16 wide;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          wide.words[i] = ptx::pack_bf16(integer(8 * half + 2 * i), integer(8 * half + 2 * i + 1));
        }
        ptx::store_shared_16(tile + j * kTileStride<kHeadDim> + column + 8 * half, wide);
      }
    });
  }

  template <class RowOf>
  __device__ __forceinline__ void load_elements(const CachedRows& from, BFloat16* to, int tile,
                                                int num_keys, const RowOf& row_of) const {
    const auto* rows = static_cast<const int8_t*>(from.rows);
#pragma unroll 1
    for (int index = threadIdx.x; index < kKeys * kHeadDim; index += kTileThreads) {
      const int j = index / kHeadDim, column = index % kHeadDim;
      const int64_t row = row_of_key(tile, j, num_keys, row_of);
      const bool is_valid = row >= 0 && column < pool_.head_dim;
      to[j * kTileStride<kHeadDim> + column] =
          is_valid ? narrow(static_cast<float>(rows[row * pool_.head_dim + column])) : BFloat16{};
    }
  }

  const CachedPool& pool_;
  float key_factor_;
  BFloat16* tiles_;       // one of keys, one of values
  unsigned char* rooms_;  // keys and values of a tile, twice
  float* scales_;         // of the tile in use: key_factor times scale of each key, then of values
  float next_scale_ = 0;
};

}  // namespace quire::cuda
