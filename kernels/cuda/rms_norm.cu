#include "kernels/ops/rms_norm.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;

/// One block per row. Thread t sums the squares of elements t, t + kThreads, …, in this order; the
/// threads' sums meet in one tree: a row's bits depend on the row alone.
__global__ void rms_norm_kernel(Rows<float> x, Rows<float> delta, FloatRows weight, FloatRows out,
                                int64_t width, float epsilon) {
  const int64_t row = blockIdx.x;
  float* x_row = x.data + row * x.stride0;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    float value = x_row[i];
    if (delta.data != nullptr) {
      value += delta.data[row * delta.stride0 + i];
      x_row[i] = value;
    }
    sum += value * value;
  }
  sum = block_reduce<kThreads>(sum, Sum());
  const float inverse = 1.0f / sqrtf(sum / static_cast<float>(width) + epsilon);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    store(out, row * out.stride0 + i, x_row[i] * inverse * load(weight, i));
  }
}

}  // namespace

void rms_norm(const RmsNormParams& params, const OpStream& stream) {
  const Rows<float> delta =
      params.delta.data == nullptr ? Rows<float>{} : rows_of<float>(params.delta);
  launch(stream, rms_norm_kernel, dim3{static_cast<unsigned>(params.x.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, rows_of<float>(params.x), delta, float_rows_of(params.weight),
         float_rows_of(params.out), params.x.shape[1], params.epsilon);
}

}  // namespace quire::cuda
