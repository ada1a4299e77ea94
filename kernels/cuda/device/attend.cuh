#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/kv_tile.cuh"
#include "kernels/cuda/device/tile.cuh"

// The one inner loop of all attention: up to 64 gathered query rows against one run of keys (a
// MoBA block, or a fixed stretch of a sequence), with a running softmax (Milakov and Gimelshein
// 2018; Dao 2022). The result is a partial: maximum, sum and unnormalised output of each row, which
// merge.cuh combines.
//
// Prefill, chunked prefill and decode all come here with the same runs of keys, cut into the same
// tiles from the run's first key on. A row's partial is one fixed sequence of operations, whatever
// rows share its tile, and so the op's result is the same bit for bit. A tile of keys that is
// wholly behind a row's limit, or before its window, changes nothing: its maximum stays, its
// weights are exact zeros. So a warp leaves out the tiles of which none of its rows sees a key.
//
// Weights go to the tensor cores as two bf16 terms, high and low: one alone would round every
// weight by up to 2^-9, and the same tokens as on the CPU could not be promised.

namespace quire::cuda {

/// Blocks of an attention kernel that a multiprocessor holds: more would have to spill.
inline constexpr int kAttendBlocksAtOnce = 2;

/// Everything but the rows and keys of one tile.
struct Attention {
  const BFloat16* query;  // + query_offset of a row: head_dim elements
  CachedPool pool;
  int head_dim;
  float scale_log2;  // softmax_scale * log2(e): weights are powers of two
  bool is_query_aligned;
  float* partial_out;     // [num_partials, head_dim]
  float2* partial_state;  // [num_partials]: maximum (of log2), sum
};

/// The rows of a tile, in shared memory.
struct RowTable {
  static constexpr bool kHasWindows = false;
  int64_t query_offset[kTileRows];  // elements
  int32_t limit[kTileRows];         // the row sees keys [0, limit) of the run; 0: no such row
  int32_t partial[kTileRows];
};

/// The same where a row sees keys [first, limit).
struct WindowedRowTable : RowTable {
  static constexpr bool kHasWindows = true;
  int32_t first[kTileRows];
};

/// Shared memory of a block: the table, the queries, the tiles of keys and values.
template <int kHeadDim, class Element, class Table = RowTable>
struct AttendMemory {
  static constexpr size_t kQueryBytes = kTileRows * kTileStride<kHeadDim> * sizeof(BFloat16);
  static constexpr size_t kBytes =
      sizeof(Table) + kQueryBytes + KvTiles<kHeadDim, Element>::kSharedBytes;

  __device__ __forceinline__ AttendMemory() {
    unsigned char* memory = ptx::dynamic_shared_memory();
    rows = reinterpret_cast<Table*>(memory);
    query = reinterpret_cast<BFloat16*>(memory + sizeof(Table));
    tiles = memory + sizeof(Table) + kQueryBytes;
  }

  Table* rows;
  BFloat16* query;
  unsigned char* tiles;
};
static_assert(sizeof(RowTable) % 128 == 0 && sizeof(WindowedRowTable) % 128 == 0,
              "tiles are loaded in pieces of 16 bytes");

/// What this thread's two rows, `row` of the table and the eighth behind it, see of the keys from
/// one key of the run on.
template <class Table>
class SeenKeys {
 public:
  __device__ __forceinline__ SeenKeys(const Table& rows, int row)
      : end_{rows.limit[row], rows.limit[row + 8]} {
    if constexpr (Table::kHasWindows) {
      first_[0] = rows.first[row];
      first_[1] = rows.first[row + 8];
    }
  }
  __device__ __forceinline__ bool has_rows() const { return end_[0] > 0 || end_[1] > 0; }
  /// Whether one of the next `num_keys` keys is seen.
  __device__ __forceinline__ bool has_any(int num_keys) const {
    return (end_[0] > 0 && first_[0] < num_keys) || (end_[1] > 0 && first_[1] < num_keys);
  }
  __device__ __forceinline__ bool has(int half, int key) const {
    if constexpr (Table::kHasWindows) return key >= first_[half] && key < end_[half];
    return key < end_[half];
  }
  /// The same, its keys counted from `key` on.
  __device__ __forceinline__ SeenKeys from(int key) const {
    SeenKeys seen = *this;
    for (int half = 0; half < 2; ++half) {
      seen.end_[half] -= key;
      seen.first_[half] -= key;
    }
    return seen;
  }

 private:
  int end_[2];
  int first_[2] = {};  // of windows only
};

/// The running softmax of this thread's two rows (lane / 4 and + 8 of the warp's sixteen).
template <int kHeadDim>
struct RunningSoftmax {
  float out[kHeadDim / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};  // over this thread's columns; the four lanes of a row meet at the end
};

/// Scores become weights, and `softmax` ready for them.
template <int kHeadDim, int kKeys, class Tiles, class Seen>
__device__ __forceinline__ void weigh(float (&scores)[kKeys / 8][4], const Seen& seen,
                                      const Tiles& tiles, RunningSoftmax<kHeadDim>& softmax) {
  const int column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[j][2 * half + i];
        const int key = column + 8 * j + i;
        score = seen.has(half, key) ? score * tiles.key_factor(key) : -INFINITY;
        largest = fmaxf(largest, score);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
    const float maximum = fmaxf(softmax.maximum[half], largest);
    // Where nothing has been seen yet, any finite reference makes all weights zero.
    const float reference = maximum == -INFINITY ? 0.0f : maximum;
    const float rescale = exp2f(softmax.maximum[half] - reference);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[j][2 * half + i];
        const int key = column + 8 * j + i;
        score = exp2f(score - reference);
        sum += score;
        score = tiles.weight_of(score, key, seen.has(half, key));
      }
    }
    softmax.maximum[half] = maximum;
    softmax.sum[half] = fmaf(softmax.sum[half], rescale, sum);
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      softmax.out[n][2 * half] *= rescale;
      softmax.out[n][2 * half + 1] *= rescale;
    }
  }
}

/// out += weights * values. Two neighbouring tiles of scores are, as they lie in registers, the
/// operand a of a product over their sixteen keys.
template <int kHeadDim, int kKeys>
__device__ __forceinline__ void add_values(const float (&weights)[kKeys / 8][4],
                                           const BFloat16* values,
                                           RunningSoftmax<kHeadDim>& softmax) {
#pragma unroll
  for (int key = 0; key < kKeys; key += 16) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const float first = weights[key / 8 + part / 2][part % 2 * 2];
      const float second = weights[key / 8 + part / 2][part % 2 * 2 + 1];
      high[part] = ptx::pack_bf16(first, second);
      low[part] = ptx::pack_bf16(first - __uint_as_float(high[part] << 16),
                                 second - __uint_as_float(high[part] & 0xFFFF0000u));
    }
#pragma unroll
    for (int n = 0; n < kHeadDim; n += 16) {
      uint32_t b[4];
      load_b<kHeadDim>(b, values, key, n);
      ptx::multiply_accumulate(softmax.out[n / 8], high, b[0], b[1]);
      ptx::multiply_accumulate(softmax.out[n / 8 + 1], high, b[2], b[3]);
      ptx::multiply_accumulate(softmax.out[n / 8], low, b[0], b[1]);
      ptx::multiply_accumulate(softmax.out[n / 8 + 1], low, b[2], b[3]);
    }
  }
}

template <int kHeadDim>
__device__ __forceinline__ void store_partials(const Attention& attention, const RowTable& rows,
                                               RunningSoftmax<kHeadDim>& softmax) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = softmax.sum[half];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    const int row = threadIdx.x / kWarpSize * 16 + lane / 4 + 8 * half;
    if (rows.limit[row] <= 0) continue;
    const int64_t partial = rows.partial[row];
    if (lane % 4 == 0) attention.partial_state[partial] = {softmax.maximum[half], sum};
    float* out = attention.partial_out + partial * attention.head_dim;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      const int column = 8 * n + 2 * (lane % 4);
      if (column < attention.head_dim) out[column] = softmax.out[n][2 * half];
      if (column + 1 < attention.head_dim) out[column + 1] = softmax.out[n][2 * half + 1];
    }
  }
}

/// Attends the rows of memory.rows (filled, and a barrier behind) to keys [first_key, num_keys) of
/// a run; nobody sees one before `first_key`. `row_of(j)`: the number of key j's row (and of its
/// value's) in the pool, or -1 for a key to be read as zeros. Ends with a barrier: shared memory
/// may be used again.
template <int kHeadDim, class Element, class Table, class RowOf>
__device__ __forceinline__ void attend(const Attention& attention,
                                       const AttendMemory<kHeadDim, Element, Table>& memory,
                                       int first_key, int num_keys, const RowOf& row_of) {
  constexpr int kKeys = KvTileShape<kHeadDim>::kKeys;
  KvTiles<kHeadDim, Element> tiles(attention.pool, attention.scale_log2, memory.tiles);
  const Table& rows = *memory.rows;
  load_tile<kTileRows, kHeadDim>(memory.query, attention.head_dim, attention.is_query_aligned,
                                 attention.query, [&](int r) -> const BFloat16* {
                                   return rows.limit[r] > 0 ? attention.query + rows.query_offset[r]
                                                            : nullptr;
                                 });
  const int first_tile = first_key / kKeys;
  tiles.begin_first(first_tile, num_keys, row_of);
  ptx::commit_copies();

  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * 16;
  const SeenKeys<Table> seen(rows, first_row + lane / 4);
  const bool has_rows = __ballot_sync(kAllLanes, seen.has_rows()) != 0;
  RunningSoftmax<kHeadDim> softmax;
  const int num_tiles = (num_keys + kKeys - 1) / kKeys;
  for (int tile = first_tile; tile < num_tiles; ++tile) {
    if (tile + 1 < num_tiles) tiles.begin(tile + 1, num_keys, row_of);
    ptx::commit_copies();
    ptx::wait_copies<1>();
    tiles.complete(tile, num_keys, row_of);
    __syncthreads();
    const SeenKeys<Table> here = seen.from(tile * kKeys);
    if (__ballot_sync(kAllLanes, here.has_any(kKeys)) != 0) {
      float scores[kKeys / 8][4] = {};
      multiply_rows<kHeadDim, kKeys>(scores, memory.query, tiles.keys(tile));
      weigh<kHeadDim, kKeys>(scores, here, tiles, softmax);
      add_values<kHeadDim, kKeys>(scores, tiles.values(tile), softmax);
    }
    __syncthreads();
  }
  if (has_rows) store_partials(attention, rows, softmax);
  __syncthreads();
}

/// The keys that a tile's rows see at most. All threads get the same number.
__device__ __forceinline__ int largest_limit(const RowTable& rows) {
  int largest = 0;
  for (int r = 0; r < kTileRows; ++r) largest = max(largest, rows.limit[r]);
  return largest;
}

/// The first key that one of the tile's rows sees. All threads get the same number.
__device__ __forceinline__ int smallest_first(const WindowedRowTable& rows) {
  int smallest = INT32_MAX;
  for (int r = 0; r < kTileRows; ++r) {
    if (rows.limit[r] > 0) smallest = min(smallest, rows.first[r]);
  }
  return smallest;
}

}  // namespace quire::cuda
