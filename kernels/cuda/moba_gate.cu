#include "kernels/ops/moba_gate.h"

#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/attention_host.cuh"
#include "kernels/cuda/device/batch.cuh"
#include "kernels/cuda/device/best_list.cuh"
#include "kernels/cuda/device/tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

// Two kernels. `score` multiplies 64 packed rows with 64 centroids at a time on tensor cores and
// keeps each row's best blocks: scores live in shared memory for as long as one tile, and no more
// than top_k - 1 claims of a row ever leave the block. The history may be cut into splits, which a
// decode step needs to fill the device. `select` takes the best of all splits' claims, which is
// exact whatever the cut, and writes them in order.
//
// A stage of a schedule is MoBA with a larger block: its rows score the centroids of units, found
// by the id of a unit's last block, and `select` writes a unit as the blocks that it is made of.
// Rows of several stages may share a tile; then the tile's history is walked once for each.
//
// A digest of bounds is two vectors a block, and the query that meets it two (block_digest.h): a
// tile of scores is then the sum of two products, one for each part.

namespace quire::cuda {
namespace {

constexpr int kSelectWarps = 4;
// Rows that keep more claims than this have their lists in global memory, where they were going
// anyway.
constexpr int kMaxSharedCandidates = 32;
constexpr int kMaxSharedOfBounds = 16;  // where tiles leave less room
// A multiprocessor's shared memory holds about so many; room for registers, too.
constexpr int kScoreBlocksAtOnce = 3;
constexpr int kScoreStride = kGateColumns + 1;
// Shared memory that `select` takes at most, where that leaves it one warp.
constexpr int64_t kSelectSharedBytes = 64 * 1024;

/// How the tokens at positions [from, end) select.
struct Stage {
  int64_t from, end;
  int32_t group;  // blocks of a unit
  int32_t top_k;  // units at most; 0: as many as the sequence's top_k
  const BFloat16* centroids;
};

struct GateCall : AttentionCall {
  const BFloat16* query;
  int64_t query_stride0, query_stride1;
  Stage stages[SelectionSchedule::kMaxStages + 1];  // single blocks first; they cover all positions
  int32_t num_stages;
  int32_t head_dim;
  int32_t digest_parts;  // vectors of head_dim in a block's digest: 1, or 2 of bounds
  bool is_query_aligned, is_centroid_aligned;
  const int32_t* top_k;
  int32_t max_candidates;  // max_selected - 1
  int32_t num_splits, units_per_split;
  uint64_t* candidates;  // [rows of the pass, heads, splits, max_candidates]
  Rows<int32_t> selected;

  /// Claims of a row that are kept in shared memory.
  __host__ __device__ __forceinline__ int32_t max_shared_candidates() const {
    return digest_parts == 1 ? kMaxSharedCandidates : kMaxSharedOfBounds;
  }

  __device__ __forceinline__ uint64_t* candidates_of(int64_t row, int64_t head, int split) const {
    return candidates +
           (((row - pass.first_row) * num_heads + head) * num_splits + split) * max_candidates;
  }
};

/// How many units of history sequence `seq` keeps; -1, and a report, where its blocks do not fit.
__device__ int32_t num_kept(const GateCall& call, const Stage& stage, int32_t seq) {
  const int32_t of_sequence = call.top_k[seq], max_selected = call.max_candidates + 1;
  const int32_t top_k = stage.top_k > 0 ? min(stage.top_k, of_sequence) : of_sequence;
  if (top_k >= 1 && static_cast<int64_t>(top_k) * stage.group <= max_selected) return top_k - 1;
  report(call.faults, FaultKind::kTopK, top_k, stage.group, max_selected);
  return -1;
}

/// What the rows of a tile need to know, in shared memory.
struct GateRows {
  int64_t query_offset[kTileRows];  // elements; -1: no row
  uint64_t* candidates[kTileRows];  // of this split
  BestListState best[kTileRows];
  int32_t num_eligible[kTileRows];  // units before the row's own; 0: it need not choose
};

template <int kHeadDim>
struct GateShape {
  static constexpr int kTile = kTileRows * kTileStride<kHeadDim>;
  static size_t shared_bytes(const GateCall& call) {
    // Also where the longest lists are elsewhere: what a row keeps is its stage's and sequence's.
    const int32_t shared = std::min(call.max_candidates, call.max_shared_candidates());
    return sizeof(GateRows) + (call.digest_parts + 2) * kTile * sizeof(BFloat16) +
           kTileRows * kScoreStride * sizeof(float) +
           static_cast<size_t>(kTileRows * shared) * sizeof(uint64_t);
  }
};
static_assert(kGateColumns == kTileRows && sizeof(GateRows) % 16 == 0);

__device__ __forceinline__ void fill_rows(const GateCall& call, const PackedTile& tile,
                                          GateRows& rows) {
  const int i = threadIdx.x;
  if (i >= kTileRows) return;
  const int64_t packed = tile.first_packed + i;
  const int64_t row = tile.span.first_row + packed / call.group_size;
  const int64_t head =
      static_cast<int64_t>(blockIdx.y) * call.group_size + packed % call.group_size;
  const bool is_row = row < tile.span.end_row;
  rows.query_offset[i] =
      is_row ? row * call.query_stride0 + head * call.query_stride1 : int64_t{-1};
  rows.candidates[i] =
      is_row ? call.candidates_of(row, head, static_cast<int>(blockIdx.z)) : nullptr;
}

/// Empty lists for the rows of one stage; the others have nothing to choose.
__device__ __forceinline__ void open_stage(const GateCall& call, const PackedTile& tile,
                                           const Stage& stage, int32_t kept, GateRows& rows) {
  const int i = threadIdx.x;
  if (i >= kTileRows) return;
  const int64_t position = tile.span.first_position + (tile.first_packed + i) / call.group_size;
  const auto num_eligible =
      static_cast<int32_t>(position / (int64_t{call.block_size} * stage.group));
  const bool is_here = rows.query_offset[i] >= 0 && position >= stage.from && position < stage.end;
  // A row that keeps everything reads no centroid.
  rows.num_eligible[i] = is_here && num_eligible > kept ? num_eligible : 0;
  rows.best[i] = {};
}

/// This warp's sixteen rows of scores, columns first_unit and on, are offered to the rows' lists.
__device__ __forceinline__ void offer_scores(GateRows& rows, const float* scores,
                                             int32_t first_unit, int32_t end_unit, int32_t kept,
                                             uint64_t* shared_lists) {
  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * 16;
#pragma unroll 1
  for (int r = first_row; r < first_row + 16; ++r) {
    const int32_t end = min(rows.num_eligible[r], end_unit);
    if (first_unit >= end) continue;
    BestList best(shared_lists != nullptr ? shared_lists + r * kept : rows.candidates[r], kept,
                  rows.best[r]);
    for (int column = lane; column < kGateColumns; column += kWarpSize) {
      const int32_t unit = first_unit + column;
      best.offer(unit < end ? claim_of(scores[r * kScoreStride + column], unit) : 0);
    }
    __syncwarp();  // all lanes have taken up the old state
    if (lane == 0) rows.best[r] = best.state();
  }
}

/// Lists go to global memory; places that no claim took hold 0.
__device__ __forceinline__ void store_lists(const GateRows& rows, int32_t kept,
                                            const uint64_t* shared_lists) {
  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * 16;
  __syncwarp();
#pragma unroll 1
  for (int r = first_row; r < first_row + 16; ++r) {
    if (rows.num_eligible[r] == 0) continue;
    for (int c = lane; c < kept; c += kWarpSize) {
      if (c >= rows.best[r].count) {
        rows.candidates[r][c] = 0;
      } else if (shared_lists != nullptr) {
        rows.candidates[r][c] = shared_lists[r * kept + c];
      }
    }
  }
}

/// Shared memory of a block that scores.
template <int kHeadDim>
struct GateMemory {
  __device__ __forceinline__ explicit GateMemory(int digest_parts) {
    unsigned char* memory = ptx::dynamic_shared_memory();
    rows = reinterpret_cast<GateRows*>(memory);
    query = reinterpret_cast<BFloat16*>(memory + sizeof(GateRows));
    centroids = query + digest_parts * GateShape<kHeadDim>::kTile;
    scores = reinterpret_cast<float*>(centroids + 2 * GateShape<kHeadDim>::kTile);
    lists = reinterpret_cast<uint64_t*>(scores + kTileRows * kScoreStride);
  }

  GateRows* rows;
  BFloat16* query;      // a tile for each part of a digest
  BFloat16* centroids;  // two tiles
  float* scores;
  uint64_t* lists;
};

/// The queries of a tile's rows as they meet the parts of a digest.
template <int kHeadDim>
__device__ __forceinline__ void load_queries(const GateCall& call,
                                             const GateMemory<kHeadDim>& memory) {
  if (call.digest_parts == 1) {
    load_tile<kTileRows, kHeadDim>(memory.query, call.head_dim, call.is_query_aligned, call.query,
                                   [&](int r) -> const BFloat16* {
                                     const int64_t offset = memory.rows->query_offset[r];
                                     return offset < 0 ? nullptr : call.query + offset;
                                   });
    return;
  }
  // Negative components meet the lower bounds, positive ones the upper; NaN goes to both.
#pragma unroll 1
  for (int index = threadIdx.x; index < kTileRows * kHeadDim; index += kTileThreads) {
    const int r = index / kHeadDim, column = index % kHeadDim;
    const int64_t offset = memory.rows->query_offset[r];
    const BFloat16 x =
        offset >= 0 && column < call.head_dim ? call.query[offset + column] : BFloat16{};
    BFloat16* lower = memory.query + r * kTileStride<kHeadDim> + column;
    lower[0] = widen(x) > 0 ? BFloat16{} : x;
    lower[GateShape<kHeadDim>::kTile] = widen(x) < 0 ? BFloat16{} : x;
  }
}

/// The rows of one stage against this split's part of the history.
template <int kHeadDim>
__device__ __forceinline__ void score_stage(const GateCall& call, const PackedTile& tile,
                                            const Stage& stage, int32_t kept,
                                            const GateMemory<kHeadDim>& memory) {
  constexpr int kTile = GateShape<kHeadDim>::kTile;
  GateRows& rows = *memory.rows;
  int32_t largest = 0;
  for (int r = 0; r < kTileRows; ++r) largest = max(largest, rows.num_eligible[r]);
  const int32_t split_begin = static_cast<int32_t>(blockIdx.z) * call.units_per_split;
  const int32_t split_end = min(largest, split_begin + call.units_per_split);
  if (split_begin >= split_end) return;

  const int32_t* table = call.batch.block_tables + tile.span.seq * call.batch.table_stride;
  const int parts = call.digest_parts;
  const auto load_centroids = [&](int32_t first, int part, int buffer) {
    load_tile<kGateColumns, kHeadDim>(
        memory.centroids + buffer * kTile, call.head_dim, call.is_centroid_aligned, stage.centroids,
        [&](int column) -> const BFloat16* {
          if (first + column >= split_end) return nullptr;
          const int64_t id = table[(first + column + int64_t{1}) * stage.group - 1];
          if (id >= 0 && id < call.num_blocks) {
            const int64_t vector = (id * call.num_kv_heads + blockIdx.y) * parts + part;
            return stage.centroids + vector * call.head_dim;
          }
          report(call.faults, FaultKind::kBlock, id, call.num_blocks);
          return nullptr;
        });
  };
  load_centroids(split_begin, 0, 0);
  ptx::commit_copies();

  uint64_t* const lists = kept <= call.max_shared_candidates() ? memory.lists : nullptr;
  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * 16;
  int32_t first = split_begin;
  int part = 0, buffer = 0;
  float sums[kGateColumns / 8][4] = {};
  while (first < split_end) {
    const bool is_last = part + 1 == parts;
    const int32_t next = is_last ? first + kGateColumns : first;
    const int next_part = is_last ? 0 : part + 1;
    if (next < split_end) load_centroids(next, next_part, buffer ^ 1);
    ptx::commit_copies();
    ptx::wait_copies<1>();
    __syncthreads();
    multiply_rows<kHeadDim, kGateColumns>(sums, memory.query + part * kTile,
                                          memory.centroids + buffer * kTile);
    if (is_last) {
#pragma unroll
      for (int j = 0; j < kGateColumns / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int r = first_row + lane / 4 + i / 2 * 8;
          memory.scores[r * kScoreStride + 8 * j + 2 * (lane % 4) + i % 2] = sums[j][i];
          sums[j][i] = 0;
        }
      }
      __syncwarp();  // a warp reads its own rows alone
      offer_scores(rows, memory.scores, first, split_end, kept, lists);
    }
    __syncthreads();
    first = next;
    part = next_part;
    buffer ^= 1;
  }
  store_lists(rows, kept, lists);
}

/// Grid: tiles of packed rows, KV heads, splits.
template <int kHeadDim>
__global__ void __launch_bounds__(kTileThreads, kScoreBlocksAtOnce) score_kernel(GateCall call) {
  const GateMemory<kHeadDim> memory(call.digest_parts);
  const PackedTile tile =
      locate_tile(call.batch, call.pass, call.group_size, blockIdx.x, call.faults);
  if (tile.span.seq < 0) return;
  const int64_t num_packed = (tile.span.end_row - tile.span.first_row) * call.group_size;
  const int64_t last_packed = min(tile.first_packed + kTileRows, num_packed) - 1;
  const int64_t first_position = tile.span.first_position + tile.first_packed / call.group_size;
  const int64_t last_position = tile.span.first_position + last_packed / call.group_size;
  fill_rows(call, tile, *memory.rows);
  __syncthreads();
  load_queries(call, memory);
#pragma unroll 1
  for (int s = 0; s < call.num_stages; ++s) {
    const Stage& stage = call.stages[s];
    if (stage.end <= first_position || stage.from > last_position) continue;
    const int32_t kept = num_kept(call, stage, tile.span.seq);
    if (kept <= 0) continue;
    open_stage(call, tile, stage, kept, *memory.rows);
    __syncthreads();
    score_stage(call, tile, stage, kept, memory);
    __syncthreads();
  }
}

/// The stage of a token.
__device__ __forceinline__ const Stage& stage_at(const GateCall& call, int64_t position) {
  int s = 0;
  while (s + 1 < call.num_stages && position >= call.stages[s].end) ++s;
  return call.stages[s];
}

/// A warp per (row, head). Dynamic shared memory: max_candidates claims per warp.
__global__ void __launch_bounds__(kSelectWarps* kWarpSize) select_kernel(GateCall call) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int num_warps = blockDim.x / kWarpSize;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * num_warps + warp;
  if (index >= call.pass.num_rows * call.num_heads) return;
  const int64_t row = call.pass.first_row + index / call.num_heads, head = index % call.num_heads;
  const RowPlace place = place_of_row(call.batch, row, call.faults);
  if (place.seq < 0) return;
  const Stage& stage = stage_at(call, place.position);
  const int32_t kept = num_kept(call, stage, place.seq), group = stage.group;
  if (kept < 0) return;
  const auto current = static_cast<int32_t>(place.position / call.block_size);
  const int32_t own_unit = current / group;
  int32_t* slots = call.selected.data + row * call.selected.stride0 + head * call.selected.stride1;
  // The units of history are full; the row's own one ends with the current block.
  const int32_t first_own = min(kept, own_unit) * group;
  const int32_t num_slots = first_own + current - own_unit * group + 1;
  for (int slot = first_own + lane; slot <= call.max_candidates; slot += kWarpSize) {
    slots[slot] = slot < num_slots ? own_unit * group + slot - first_own : -1;
  }
  if (own_unit <= kept) {
    for (int slot = lane; slot < first_own; slot += kWarpSize) slots[slot] = slot;
    return;
  }
  auto* const claims =
      reinterpret_cast<uint64_t*>(ptx::dynamic_shared_memory()) + warp * call.max_candidates;
  BestList best(claims, kept, BestListState{});
  for (int split = 0; split < call.num_splits; ++split) {
    if (split * call.units_per_split >= own_unit) break;  // such a split was never scored
    const uint64_t* from = call.candidates_of(row, head, split);
    for (int first = 0; first < kept; first += kWarpSize) {
      best.offer(first + lane < kept ? from[first + lane] : 0);
    }
  }
  __syncwarp();
  // Ascending by index: a claim's place is the number of smaller indices among the kept.
  for (int i = lane; i < kept; i += kWarpSize) {
    const int32_t unit = block_of(claims[i]);
    int rank = 0;
    for (int other = 0; other < kept; ++other) rank += block_of(claims[other]) < unit;
    for (int32_t b = 0; b < group; ++b) slots[rank * group + b] = unit * group + b;
  }
}

void run_pass(const GateCall& call, const OpStream& stream) {
  if (call.max_candidates > 0) {
    const auto num_tiles = static_cast<unsigned>(
        max_packed_tiles(call.pass.num_rows, call.group_size, call.batch.num_seqs));
    const dim3 grid{num_tiles, static_cast<unsigned>(call.num_kv_heads),
                    static_cast<unsigned>(call.num_splits)};
    for_head_dim(call.head_dim, [&](auto head_dim) {
      launch(stream, score_kernel<head_dim()>, grid, dim3{kTileThreads, 1, 1},
             GateShape<head_dim()>::shared_bytes(call), call);
    });
  }
  const int64_t num_choices = call.pass.num_rows * call.num_heads;
  const int64_t list_bytes = int64_t{call.max_candidates} * static_cast<int64_t>(sizeof(uint64_t));
  const int64_t num_warps =
      std::clamp<int64_t>(kSelectSharedBytes / std::max<int64_t>(list_bytes, 1), 1, kSelectWarps);
  launch(stream, select_kernel, dim3{blocks_for(num_choices, num_warps), 1, 1},
         dim3{static_cast<unsigned>(num_warps * kWarpSize), 1, 1},
         static_cast<size_t>(num_warps * list_bytes), call);
}

/// The schedule's stages behind that of single blocks. Units that a row may have before its own, at
/// most, come back in max_history.
void add_stages(const MobaGateParams& params, GateCall& call, int64_t& max_history) {
  const PagedKvView& kv = params.kv;
  const auto* unit_centroids = static_cast<const BFloat16*>(kv.unit_centroids.data);
  call.stages[0] = {0, INT64_MAX, 1, 0, static_cast<const BFloat16*>(kv.centroids.data)};
  call.num_stages = params.schedule.num_stages + 1;
  for (int32_t s = 0; s < params.schedule.num_stages; ++s) {
    const SelectionStage& stage = params.schedule.stages[static_cast<size_t>(s)];
    call.stages[s].end = stage.from;
    call.stages[s + 1] = {stage.from, INT64_MAX, stage.group, stage.top_k,
                          unit_centroids + s * kv.unit_centroids.stride[0]};
    call.is_centroid_aligned &= is_16_byte_aligned(call.stages[s + 1].centroids);
  }
  max_history = 0;
  for (int32_t s = 0; s < call.num_stages; ++s) {
    const Stage& stage = call.stages[s];
    const int64_t last = std::min<int64_t>(params.batch.max_kv_len, stage.end) - 1;
    if (last < stage.from) continue;
    max_history = std::max(max_history, last / (kv.block_size() * stage.group));
  }
}

}  // namespace

void moba_gate(const MobaGateParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  const int64_t max_selected = params.selected.shape[2];
  const AttentionSizes sizes = attention_sizes(params.query, kv, max_selected);
  if (sizes.num_rows == 0 || params.batch.num_seqs() == 0) return;
  const Attention attention = attention_of(params.query, kv, 1.0f);
  GateCall call{};
  static_cast<AttentionCall&>(call) = attention_call_of(params, stream);
  call.query = attention.query;
  call.query_stride0 = params.query.stride[0];
  call.query_stride1 = params.query.stride[1];
  call.head_dim = attention.head_dim;
  call.digest_parts = static_cast<int32_t>(kv.digest_dim() / kv.head_dim());
  call.is_query_aligned = attention.is_query_aligned;
  call.is_centroid_aligned = kv.head_dim() % 8 == 0 && is_16_byte_aligned(kv.centroids.data);
  call.top_k = static_cast<const int32_t*>(params.top_k.data);
  call.max_candidates = static_cast<int32_t>(max_selected - 1);
  call.selected = rows_of<int32_t>(params.selected);
  int64_t max_history = 0;
  add_stages(params, call, max_history);
  const GatePlan plan = plan_moba_gate({.num_rows = sizes.num_rows,
                                        .num_heads = sizes.num_heads,
                                        .num_kv_heads = sizes.num_kv_heads,
                                        .num_seqs = params.batch.num_seqs(),
                                        .max_history = max_history,
                                        .max_candidates = call.max_candidates,
                                        .num_multiprocessors = stream.num_multiprocessors()},
                                       stream.scratch().size());
  call.num_splits = static_cast<int32_t>(plan.num_splits);
  call.units_per_split = static_cast<int32_t>(plan.units_per_split);
  call.candidates = reinterpret_cast<uint64_t*>(stream.scratch().data() + plan.candidates);
  for (int64_t first = 0; first < sizes.num_rows; first += plan.rows_per_pass) {
    call.pass = {first, std::min(plan.rows_per_pass, sizes.num_rows - first)};
    run_pass(call, stream);
  }
}

}  // namespace quire::cuda
