#include "kernels/ops/add_bias.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void add_bias_kernel(Rows<float> x, FloatRows bias, int64_t width) {
  float* row = x.data + blockIdx.x * x.stride0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) row[i] += load(bias, i);
}

}  // namespace

void add_bias(const AddBiasParams& params, const OpStream& stream) {
  launch(stream, add_bias_kernel, dim3{static_cast<unsigned>(params.x.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, rows_of<float>(params.x), float_rows_of(params.bias),
         params.x.shape[1]);
}

}  // namespace quire::cuda
