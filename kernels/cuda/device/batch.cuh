#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/tile.cuh"
#include "kernels/paged_kv.h"

// A ragged batch as kernels see it. Its arrays lie in device memory, so the host knows bounds only:
// it launches as many tiles as there could be, and each block finds out which rows are its own.

namespace quire::cuda {

struct Batch {
  const int32_t* cu_query_lens;
  const int32_t* kv_lens;
  const int32_t* block_tables;
  int64_t table_stride;
  int32_t num_seqs;
  int64_t num_rows;           // of the query tensor
  int64_t max_cached_tokens;  // no kv_len may be larger: the launch was sized by it
};

inline Batch batch_of(const RaggedBatchView& view, int64_t num_rows, int64_t block_size) {
  return {static_cast<const int32_t*>(view.cu_query_lens.data),
          static_cast<const int32_t*>(view.kv_lens.data),
          static_cast<const int32_t*>(view.block_tables.data),
          view.block_tables.stride[0],
          static_cast<int32_t>(view.num_seqs()),
          num_rows,
          std::min<int64_t>(view.block_tables.shape[1] * block_size, view.max_kv_len)};
}

/// Rows that one pass of an op computes: [first_row, first_row + num_rows) of the query tensor.
struct Pass {
  int64_t first_row, num_rows;
};

/// Some rows of one sequence. No rows: end_row <= first_row.
struct RowSpan {
  int32_t seq;
  int64_t first_row, end_row;
  int64_t first_position;  // of first_row's token
};

/// The rows of sequence `seq` inside of the pass; none, and a report, if the batch contradicts
/// itself.
__device__ __forceinline__ RowSpan span_of(const Batch& batch, int32_t seq, const Pass& pass,
                                           const FaultSink& faults) {
  const int64_t begin = batch.cu_query_lens[seq], end = batch.cu_query_lens[seq + 1];
  const int64_t kv_len = batch.kv_lens[seq];
  if (begin < 0 || begin > end || end > batch.num_rows || end - begin > kv_len ||
      kv_len > batch.max_cached_tokens) {
    report(faults, FaultKind::kRows, begin, end, kv_len);
    return {seq, 0, 0, 0};
  }
  const int64_t first = begin > pass.first_row ? begin : pass.first_row;
  const int64_t pass_end = pass.first_row + pass.num_rows;
  return {seq, first, end < pass_end ? end : pass_end, kv_len - (end - first)};
}

/// The row's sequence and position; seq -1 for a row that belongs to nobody.
struct RowPlace {
  int32_t seq;
  int64_t position;
};

__device__ __forceinline__ RowPlace place_of_row(const Batch& batch, int64_t row,
                                                 const FaultSink& faults) {
  for (int32_t seq = 0; seq < batch.num_seqs; ++seq) {
    if (row < batch.cu_query_lens[seq] || row >= batch.cu_query_lens[seq + 1]) continue;
    const RowSpan span = span_of(batch, seq, {row, 1}, faults);
    if (span.first_row < span.end_row) return {seq, span.first_position};
  }
  return {-1, 0};
}

/// Packed rows, as many as kTileRows: packed row r of a sequence is token r / group_size, head r %
/// group_size of the KV head's group. A tile may begin in the middle of a token.
struct PackedTile {
  RowSpan span;
  int64_t first_packed;  // seq -1 in `span`: no such tile
};

__device__ __forceinline__ PackedTile locate_tile(const Batch& batch, const Pass& pass,
                                                  int64_t group_size, int64_t tile,
                                                  const FaultSink& faults) {
  for (int32_t seq = 0; seq < batch.num_seqs; ++seq) {
    const RowSpan span = span_of(batch, seq, pass, faults);
    if (span.first_row >= span.end_row) continue;
    const int64_t num_packed = (span.end_row - span.first_row) * group_size;
    const int64_t num_tiles = (num_packed + kTileRows - 1) / kTileRows;
    if (tile < num_tiles) return {span, tile * kTileRows};
    tile -= num_tiles;
  }
  return {{-1, 0, 0, 0}, 0};
}

}  // namespace quire::cuda
