#include "kernels/ops/seal_units.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 128;

struct Units {
  const BFloat16* centroids;  // [num_blocks, num_kv_heads, head_dim]
  BFloat16* unit_centroids;   // the same, of one stage
  const int32_t* members;     // [num_units, group]
  int64_t group, num_blocks, num_kv_heads, head_dim;
};

/// One thread block per (unit, KV head), a thread per column, which adds the members in their
/// order. A unit with a bad member is left alone.
__global__ void seal_units_kernel(Units units, FaultSink faults) {
  const int32_t* members = units.members + blockIdx.x * units.group;
  for (int64_t m = 0; m < units.group; ++m) {
    if (members[m] >= 0 && members[m] < units.num_blocks) continue;
    if (threadIdx.x == 0) report(faults, FaultKind::kBlock, members[m], units.num_blocks);
    return;
  }
  const auto row_of = [&](int64_t m) {
    return (members[m] * units.num_kv_heads + blockIdx.y) * units.head_dim;
  };
  const float inverse = 1.0f / static_cast<float>(units.group);
  for (int64_t i = threadIdx.x; i < units.head_dim; i += kThreads) {
    float sum = 0;
    for (int64_t m = 0; m < units.group; ++m) sum += widen(units.centroids[row_of(m) + i]);
    units.unit_centroids[row_of(units.group - 1) + i] = narrow(sum * inverse);
  }
}

}  // namespace

void seal_units(const SealUnitsParams& params, const OpStream& stream) {
  const PagedKvView& kv = params.kv;
  const Units units{
      static_cast<const BFloat16*>(kv.centroids.data),
      static_cast<BFloat16*>(kv.unit_centroids.data) + params.stage * kv.unit_centroids.stride[0],
      static_cast<const int32_t*>(params.members.data),
      params.members.shape[1],
      kv.num_blocks(),
      kv.num_kv_heads(),
      kv.head_dim()};
  launch(stream, seal_units_kernel,
         dim3{static_cast<unsigned>(params.members.shape[0]),
              static_cast<unsigned>(kv.num_kv_heads()), 1},
         dim3{kThreads, 1, 1}, 0, units, stream.faults());
}

}  // namespace quire::cuda
