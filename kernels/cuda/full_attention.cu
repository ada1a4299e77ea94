#include "kernels/ops/full_attention.h"

#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/device/attend.cuh"
#include "kernels/cuda/device/attention_host.cuh"
#include "kernels/cuda/device/batch.cuh"
#include "kernels/cuda/device/merge.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

// A sequence is cut into runs of kFullRunTokens tokens from its beginning on; a block attends 64
// packed rows to one run, and the partials of a row's runs are merged in order. The cut does not
// depend on the number of rows: a decode step, which needs it to fill the device, and a prefill,
// which does not, compute a row alike. With a window, a row has partials of the runs that its
// window reaches; the rest is the same.

namespace quire::cuda {
namespace {

constexpr int kMergeWarps = 4;

struct FullCall : AttentionCall {
  int32_t window;     // 0: none
  int32_t num_slots;  // partials of a (row, head)
  int64_t query_stride0, query_stride1;
};

/// The first token that a query at `position` sees.
__device__ __forceinline__ int64_t first_seen(const FullCall& call, int64_t position) {
  return call.window == 0 ? 0 : max(int64_t{0}, position - call.window + 1);
}

/// Fills the table with the tile's rows and what they see of the run.
template <class Table>
__device__ void fill_rows(const FullCall& call, const PackedTile& tile, int64_t run, int kv_head,
                          Table& rows) {
  const int i = threadIdx.x;
  if (i >= kTileRows) return;
  const int64_t packed = tile.first_packed + i;
  const int64_t row = tile.span.first_row + packed / call.group_size;
  const int64_t head = kv_head * call.group_size + packed % call.group_size;
  rows.limit[i] = 0;
  if constexpr (Table::kHasWindows) rows.first[i] = 0;
  if (row >= tile.span.end_row) return;
  const int64_t position = tile.span.first_position + packed / call.group_size;
  const int64_t begin = run * kFullRunTokens, first = first_seen(call, position);
  const int64_t slot = run - first / kFullRunTokens;
  if (slot < 0) return;
  rows.limit[i] = static_cast<int32_t>(
      max(int64_t{0}, min(position + 1 - begin, static_cast<int64_t>(kFullRunTokens))));
  if constexpr (Table::kHasWindows) {
    rows.first[i] = static_cast<int32_t>(max(int64_t{0}, first - begin));
  }
  rows.query_offset[i] = row * call.query_stride0 + head * call.query_stride1;
  rows.partial[i] = static_cast<int32_t>(
      ((row - call.pass.first_row) * call.num_heads + head) * call.num_slots + slot);
}

/// Grid: tiles of packed rows, runs from the first one on that the tile's first row sees, KV heads.
template <int kHeadDim, class Element, class Table>
__global__ void __launch_bounds__(kTileThreads, kAttendBlocksAtOnce)
    attend_kernel(Attention attention, FullCall call) {
  const AttendMemory<kHeadDim, Element, Table> memory;
  const PackedTile tile =
      locate_tile(call.batch, call.pass, call.group_size, blockIdx.x, call.faults);
  if (tile.span.seq < 0) return;
  const int64_t position = tile.span.first_position + tile.first_packed / call.group_size;
  const int64_t run = first_seen(call, position) / kFullRunTokens + blockIdx.y;
  const auto kv_head = static_cast<int>(blockIdx.z);
  fill_rows(call, tile, run, kv_head, *memory.rows);
  __syncthreads();
  const int num_keys = largest_limit(*memory.rows);
  if (num_keys == 0) return;
  int first_key = 0;
  if constexpr (Table::kHasWindows) first_key = smallest_first(*memory.rows);
  const int32_t* table = call.batch.block_tables + tile.span.seq * call.batch.table_stride;
  const auto run_begin = static_cast<uint32_t>(run * kFullRunTokens);
  const auto block_size = static_cast<uint32_t>(call.block_size);
  attend(attention, memory, first_key, num_keys, [&](int key) -> int64_t {
    // 32 bits: division by a number that is not known before is slow, and of 64 bits far slower.
    const uint32_t at = run_begin + static_cast<uint32_t>(key);
    const int64_t id = table[at / block_size];
    if (id < 0 || id >= call.num_blocks) {
      report(call.faults, FaultKind::kBlock, id, call.num_blocks);
      return -1;
    }
    return (id * call.num_kv_heads + kv_head) * call.block_size + at % block_size;
  });
}

/// A warp per (row, head).
__global__ void __launch_bounds__(kMergeWarps* kWarpSize)
    merge_kernel(Attention attention, FullCall call, FloatRows out) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMergeWarps + threadIdx.x / kWarpSize;
  if (index >= call.pass.num_rows * call.num_heads) return;
  const int64_t row = call.pass.first_row + index / call.num_heads;
  const int64_t head = index % call.num_heads;
  const RowPlace place = place_of_row(call.batch, row, call.faults);
  if (place.seq < 0) return;
  const int64_t first_run = first_seen(call, place.position) / kFullRunTokens;
  const auto num_runs = static_cast<int>(place.position / kFullRunTokens + 1 - first_run);
  merge_partials(attention.partial_out, attention.partial_state, index * call.num_slots, num_runs,
                 attention.head_dim, out, row * out.stride0 + head * out.stride1);
}

void run_pass(const FullAttentionParams& params, const Attention& attention, const FullCall& call,
              const OpStream& stream) {
  const auto num_tiles = static_cast<unsigned>(
      max_packed_tiles(call.pass.num_rows, call.group_size, call.batch.num_seqs));
  const auto attend_with = [&](auto table, int64_t num_runs) {
    using Table = decltype(table);
    const dim3 grid{num_tiles, static_cast<unsigned>(num_runs),
                    static_cast<unsigned>(call.num_kv_heads)};
    for_pool(params.kv, [&](auto head_dim, auto element) {
      using Element = decltype(element);
      launch(stream, attend_kernel<head_dim(), Element, Table>, grid, dim3{kTileThreads, 1, 1},
             AttendMemory<head_dim(), Element, Table>::kBytes, attention, call);
    });
  };
  if (call.window == 0) {
    attend_with(RowTable(), call.num_slots);
  } else {  // a tile's last row may see one run more than its first
    attend_with(WindowedRowTable(), call.num_slots + 1);
  }
  const int64_t num_merges = call.pass.num_rows * call.num_heads;
  launch(stream, merge_kernel, dim3{blocks_for(num_merges, kMergeWarps), 1, 1},
         dim3{kMergeWarps * kWarpSize, 1, 1}, 0, attention, call, float_rows_of(params.out));
}

}  // namespace

void full_attention(const FullAttentionParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  const AttentionSizes sizes =
      attention_sizes(params.query, kv, max_runs_of_row(params.batch.max_kv_len, params.window));
  if (sizes.num_rows == 0 || params.batch.num_seqs() == 0) return;
  const FullAttentionPlan plan = plan_full_attention(sizes, stream.scratch().size());
  std::byte* scratch = stream.scratch().data();
  Attention attention = attention_of(params.query, kv, params.softmax_scale);
  attention.partial_out = reinterpret_cast<float*>(scratch + plan.partial_out);
  attention.partial_state = reinterpret_cast<float2*>(scratch + plan.partial_state);
  FullCall call{attention_call_of(params, stream), params.window,
                static_cast<int32_t>(sizes.num_slots), params.query.stride[0],
                params.query.stride[1]};
  for (int64_t first = 0; first < sizes.num_rows; first += plan.rows_per_pass) {
    call.pass = {first, std::min(plan.rows_per_pass, sizes.num_rows - first)};
    run_pass(params, attention, call, stream);
  }
}

}  // namespace quire::cuda
