#include "kernels/ops/silu_mul.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void silu_mul_kernel(Rows<float> gate_up, FloatRows out, int64_t width) {
  const int64_t t = blockIdx.x;
  const float* from = gate_up.data + t * gate_up.stride0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const float gate = from[i], up = from[width + i];
    store(out, t * out.stride0 + i, gate / (1.0f + expf(-gate)) * up);
  }
}

}  // namespace

void silu_mul(const SiluMulParams& params, const OpStream& stream) {
  launch(stream, silu_mul_kernel, dim3{static_cast<unsigned>(params.out.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, rows_of<float>(params.gate_up), float_rows_of(params.out),
         params.out.shape[1]);
}

}  // namespace quire::cuda
