#include "kernels/ops/head_norm.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/plan.h"

namespace quire::cuda {
namespace {

constexpr int kWarps = 4;

/// A warp per head. Lane l sums the squares of elements l, l + 32, …, in this order; the lanes'
/// sums meet in one tree: a head's bits depend on the head alone.
__global__ void head_norm_kernel(Rows<float> x, FloatRows weight, int64_t num_heads,
                                 int64_t head_dim, float epsilon) {
  const int64_t head = static_cast<int64_t>(blockIdx.y) * kWarps + threadIdx.x / kWarpSize;
  if (head >= num_heads) return;
  float* vector = x.data + blockIdx.x * x.stride0 + head * x.stride1;
  const int lane = threadIdx.x % kWarpSize;
  float sum = 0;
  for (int64_t i = lane; i < head_dim; i += kWarpSize) sum += vector[i] * vector[i];
  sum = warp_reduce(sum, Sum());
  const float inverse = 1.0f / sqrtf(sum / static_cast<float>(head_dim) + epsilon);
  for (int64_t i = lane; i < head_dim; i += kWarpSize) {
    vector[i] = vector[i] * inverse * load(weight, i);
  }
}

}  // namespace

void head_norm(const HeadNormParams& params, const OpStream& stream) {
  const dim3 grid{static_cast<unsigned>(params.x.shape[0]), blocks_for(params.x.shape[1], kWarps),
                  1};
  launch(stream, head_norm_kernel, grid, dim3{kWarps * kWarpSize, 1, 1}, 0,
         rows_of<float>(params.x), float_rows_of(params.weight), params.x.shape[1],
         params.x.shape[2], params.epsilon);
}

}  // namespace quire::cuda
