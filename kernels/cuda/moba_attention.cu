#include "kernels/ops/moba_attention.h"

#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/device/attend.cuh"
#include "kernels/cuda/device/attention_host.cuh"
#include "kernels/cuda/device/batch.cuh"
#include "kernels/cuda/device/merge.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

// Key-block-major MoBA (section 3.4 of the MoBA report's efficient form, over paged blocks). Every
// (row, head, slot) of `selected` is a pair of a query and a block; a bucket is a (block, KV head).
//
//   count      how many pairs each bucket has, and each pair's rank in its bucket
//   allocate   a stretch of the routed rows, and tiles of 64 of them, for each bucket in use
//   scatter    pairs to their places
//   attend     a tile's queries, gathered, against its block: one partial per pair
//   merge      the partials of each (row, head), slots ascending
//
// Ranks and stretches come from atomic counters, so which rows share a tile may differ from run to
// run. No result can: a pair's partial depends on its own query and block alone (attend.cuh), and
// the merge goes by slots. Sequences that share a block share its tiles, too.
//
// A decode step is the same with few rows: a bucket holds the group's heads, packed, and the
// selected blocks are what the device is filled with.

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMergeWarps = 4;
constexpr int kAttendBlocksPerMultiprocessor = 4;

struct Routing : AttentionCall {
  Rows<const int32_t> selected;
  int32_t max_selected;
  int32_t* ranks;  // -1: not routed
  RoutedRow* rows;
  int32_t* touched;
  RoutedTile* tiles;
  int32_t* counts;
  int32_t* offsets;
  RoutingCursors* cursors;

  __device__ __forceinline__ const int32_t* slots_of(int64_t row, int32_t head) const {
    return selected.data + row * selected.stride0 + head * selected.stride1;
  }
  __device__ __forceinline__ int64_t pair_of(int64_t row, int32_t head, int32_t slot) const {
    return ((row - pass.first_row) * num_heads + head) * max_selected + slot;
  }
  /// -1 for a block id outside of the pool.
  __device__ __forceinline__ int32_t bucket_of(int32_t seq, int32_t logical, int32_t head) const {
    const int64_t id = batch.block_tables[seq * batch.table_stride + logical];
    if (id >= 0 && id < num_blocks) {
      return static_cast<int32_t>(id * num_kv_heads + head / group_size);
    }
    report(faults, FaultKind::kBlock, id, num_blocks);
    return -1;
  }
};

/// Whether slots are what the contract says: ascending, the last one the current block.
__device__ bool is_selection(const Routing& r, const int32_t* slots, int32_t current) {
  int32_t previous = -1;
  for (int32_t slot = 0; slot < r.max_selected && slots[slot] != -1; ++slot) {
    if (slots[slot] <= previous || slots[slot] > current) {
      report(r.faults, FaultKind::kSelection, slots[slot], previous, current);
      return false;
    }
    previous = slots[slot];
  }
  if (previous != current) report(r.faults, FaultKind::kCurrentNotLast, previous, current);
  return previous == current;
}

/// A thread per (row, head) of the pass.
__global__ void count_kernel(Routing r) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = r.pass.first_row + index / r.num_heads;
  const auto head = static_cast<int32_t>(index % r.num_heads);
  const bool in_pass = index < r.pass.num_rows * r.num_heads;
  const RowPlace place = in_pass ? place_of_row(r.batch, row, r.faults) : RowPlace{-1, 0};
  const int32_t* slots = in_pass ? r.slots_of(row, head) : nullptr;
  const auto current = static_cast<int32_t>(place.position / r.block_size);
  bool is_open = place.seq >= 0 && is_selection(r, slots, current);
  const unsigned lane = threadIdx.x % kWarpSize;
  for (int32_t slot = 0; slot < r.max_selected; ++slot) {
    is_open = is_open && slots[slot] != -1;
    const int32_t bucket = is_open ? r.bucket_of(place.seq, slots[slot], head) : -1;
    // Neighbours choose alike: the lanes with one bucket add to its counter once.
    const unsigned mates = __match_any_sync(
        kAllLanes, bucket >= 0 ? static_cast<unsigned>(bucket) : 0x80000000u | lane);
    const int leader = __ffs(mates) - 1;
    int32_t first = 0;
    if (bucket >= 0 && static_cast<int>(lane) == leader) {
      first = atomicAdd(&r.counts[bucket], __popc(mates));
      if (first == 0) r.touched[atomicAdd(&r.cursors->num_touched, 1)] = bucket;
    }
    first = __shfl_sync(kAllLanes, first, leader);
    const int32_t rank = bucket >= 0 ? first + __popc(mates & ((1u << lane) - 1u)) : -1;
    if (in_pass) r.ranks[r.pair_of(row, head, slot)] = rank;
  }
}

/// A thread per bucket in use.
__global__ void allocate_kernel(Routing r) {
  const int32_t index = static_cast<int32_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= r.cursors->num_touched) return;
  const int32_t bucket = r.touched[index], count = r.counts[bucket];
  const int32_t first = atomicAdd(&r.cursors->num_rows, count);
  r.offsets[bucket] = first;
  const int32_t num_tiles = (count + kTileRows - 1) / kTileRows;
  const int32_t first_tile = atomicAdd(&r.cursors->num_tiles, num_tiles);
  for (int32_t tile = 0; tile < num_tiles; ++tile) {
    const int32_t done = tile * kTileRows;
    r.tiles[first_tile + tile] = {bucket, first + done, min(kTileRows, count - done)};
  }
}

/// A thread per pair.
__global__ void scatter_kernel(Routing r) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pair >= r.pass.num_rows * r.num_heads * r.max_selected || r.ranks[pair] < 0) return;
  const auto slot = static_cast<int32_t>(pair % r.max_selected);
  const auto head = static_cast<int32_t>(pair / r.max_selected % r.num_heads);
  const int64_t row = r.pass.first_row + pair / r.max_selected / r.num_heads;
  const RowPlace place = place_of_row(r.batch, row, r.faults);
  const int32_t logical = r.slots_of(row, head)[slot];
  const int32_t bucket = r.bucket_of(place.seq, logical, head);
  const auto offset = static_cast<int32_t>(place.position % r.block_size);
  const bool is_current = logical == static_cast<int32_t>(place.position / r.block_size);
  r.rows[r.offsets[bucket] + r.ranks[pair]] = {static_cast<int32_t>(pair),
                                               is_current ? offset + 1 : r.block_size};
}

/// Beside the routing, not in it: there, some of the kernels would need more registers.
struct QueryStrides {
  int64_t row, head;
};

/// A block per tile; as many blocks as fill the device take the tiles in turns.
template <int kHeadDim, class Element>
__global__ void __launch_bounds__(kTileThreads, kAttendBlocksAtOnce)
    attend_kernel(Attention attention, Routing r, QueryStrides strides) {
  const AttendMemory<kHeadDim, Element> memory;
  for (int32_t index = blockIdx.x; index < r.cursors->num_tiles; index += gridDim.x) {
    const RoutedTile tile = r.tiles[index];
    if (threadIdx.x < kTileRows) {
      const int i = threadIdx.x;
      const bool is_row = i < tile.num_rows;
      const RoutedRow routed = is_row ? r.rows[tile.first + i] : RoutedRow{0, 0};
      const int64_t row = r.pass.first_row + routed.pair / r.max_selected / r.num_heads;
      const int64_t head = routed.pair / r.max_selected % r.num_heads;
      memory.rows->limit[i] = routed.limit;
      memory.rows->partial[i] = routed.pair;
      memory.rows->query_offset[i] = row * strides.row + head * strides.head;
    }
    __syncthreads();
    const int64_t first = static_cast<int64_t>(tile.bucket) * r.block_size;
    attend(attention, memory, 0, largest_limit(*memory.rows), [&](int key) { return first + key; });
  }
}

/// A warp per (row, head).
__global__ void __launch_bounds__(kMergeWarps* kWarpSize)
    merge_kernel(Attention attention, Routing r, FloatRows out) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMergeWarps + threadIdx.x / kWarpSize;
  if (index >= r.pass.num_rows * r.num_heads) return;
  const int64_t row = r.pass.first_row + index / r.num_heads;
  const auto head = static_cast<int32_t>(index % r.num_heads);
  if (place_of_row(r.batch, row, r.faults).seq < 0) return;
  const int32_t* slots = r.slots_of(row, head);
  int32_t num_slots = 0;
  while (num_slots < r.max_selected && slots[num_slots] != -1) ++num_slots;
  merge_partials(attention.partial_out, attention.partial_state, index * r.max_selected, num_slots,
                 attention.head_dim, out, row * out.stride0 + head * out.stride1);
}

void run_pass(const MobaAttentionParams& params, const MobaAttentionPlan& plan,
              const Attention& attention, const Routing& routing, const OpStream& stream) {
  const dim3 threads{kThreads, 1, 1};
  const int64_t num_lists = routing.pass.num_rows * routing.num_heads;  // of slots
  stream.zero(routing.counts, plan.cursors - plan.counts + sizeof(RoutingCursors));
  launch(stream, count_kernel, dim3{blocks_for(num_lists, kThreads), 1, 1}, threads, 0, routing);
  launch(stream, allocate_kernel, dim3{blocks_for(plan.max_touched, kThreads), 1, 1}, threads, 0,
         routing);
  launch(stream, scatter_kernel, dim3{blocks_for(num_lists * routing.max_selected, kThreads), 1, 1},
         threads, 0, routing);
  const int64_t resident = int64_t{kAttendBlocksPerMultiprocessor} * stream.num_multiprocessors();
  const auto num_attending = static_cast<unsigned>(std::min(plan.max_tiles, resident));
  const QueryStrides strides{params.query.stride[0], params.query.stride[1]};
  for_pool(params.kv, [&](auto head_dim, auto element) {
    using Element = decltype(element);
    launch(stream, attend_kernel<head_dim(), Element>, dim3{num_attending, 1, 1},
           dim3{kTileThreads, 1, 1}, AttendMemory<head_dim(), Element>::kBytes, attention, routing,
           strides);
  });
  launch(stream, merge_kernel, dim3{blocks_for(num_lists, kMergeWarps), 1, 1},
         dim3{kMergeWarps * kWarpSize, 1, 1}, 0, attention, routing, float_rows_of(params.out));
}

}  // namespace

void moba_attention(const MobaAttentionParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  const AttentionSizes sizes = attention_sizes(params.query, kv, params.selected.shape[2]);
  if (sizes.num_rows == 0 || params.batch.num_seqs() == 0) return;
  const MobaAttentionPlan plan = plan_moba_attention(sizes, stream.scratch().size());
  std::byte* scratch = stream.scratch().data();
  Attention attention = attention_of(params.query, kv, params.softmax_scale);
  attention.partial_out = reinterpret_cast<float*>(scratch + plan.partial_out);
  attention.partial_state = reinterpret_cast<float2*>(scratch + plan.partial_state);
  Routing routing{};
  static_cast<AttentionCall&>(routing) = attention_call_of(params, stream);
  routing.selected = rows_of<const int32_t>(params.selected);
  routing.max_selected = static_cast<int32_t>(sizes.num_slots);
  routing.ranks = reinterpret_cast<int32_t*>(scratch + plan.ranks);
  routing.rows = reinterpret_cast<RoutedRow*>(scratch + plan.rows);
  routing.touched = reinterpret_cast<int32_t*>(scratch + plan.touched);
  routing.tiles = reinterpret_cast<RoutedTile*>(scratch + plan.tiles);
  routing.counts = reinterpret_cast<int32_t*>(scratch + plan.counts);
  routing.offsets = reinterpret_cast<int32_t*>(scratch + plan.offsets);
  routing.cursors = reinterpret_cast<RoutingCursors*>(scratch + plan.cursors);
  for (int64_t first = 0; first < sizes.num_rows; first += plan.rows_per_pass) {
    routing.pass = {first, std::min(plan.rows_per_pass, sizes.num_rows - first)};
    run_pass(params, plan, attention, routing, stream);
  }
}

}  // namespace quire::cuda
