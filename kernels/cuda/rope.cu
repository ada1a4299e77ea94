#include "kernels/ops/rope.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 128;

/// Product, range reduction, sine and cosine in f64, as the contract asks. `sets` may be null.
__global__ void rope_table_kernel(const int32_t* positions, const double* all_sets,
                                  const int32_t* sets, double scale, Rows<float> cos_out,
                                  Rows<float> sin_out, int64_t num_sets, int64_t num_pairs,
                                  FaultSink faults) {
  const int64_t t = blockIdx.x;
  const int64_t set = sets == nullptr ? 0 : sets[t];
  if (set < 0 || set >= num_sets) {
    if (threadIdx.x == 0) report(faults, FaultKind::kRopeSet, set, num_sets);
    return;
  }
  const double* inv_freq = all_sets + set * num_pairs;
  const double position = positions[t];
  for (int64_t i = threadIdx.x; i < num_pairs; i += kThreads) {
    const double angle = position * inv_freq[i];
    cos_out.data[t * cos_out.stride0 + i] = static_cast<float>(scale * cos(angle));
    sin_out.data[t * sin_out.stride0 + i] = static_cast<float>(scale * sin(angle));
  }
}

__global__ void rope_kernel(Rows<float> x, Rows<float> cos_in, Rows<float> sin_in, FloatRows out,
                            int64_t num_heads, int64_t head_dim, int64_t half) {
  const int64_t t = blockIdx.x, rest = head_dim - 2 * half;
  for (int64_t index = threadIdx.x; index < num_heads * half; index += kThreads) {
    const int64_t head = index / half, i = index % half;
    const float* from = x.data + t * x.stride0 + head * x.stride1;
    const float a = from[i], b = from[i + half];
    const float cosine = cos_in.data[t * cos_in.stride0 + i];
    const float sine = sin_in.data[t * sin_in.stride0 + i];
    const int64_t to = t * out.stride0 + head * out.stride1 + i;
    store(out, to, a * cosine - b * sine);
    store(out, to + half, b * cosine + a * sine);
  }
  for (int64_t index = threadIdx.x; index < num_heads * rest; index += kThreads) {
    const int64_t head = index / rest, i = 2 * half + index % rest;
    store(out, t * out.stride0 + head * out.stride1 + i,
          x.data[t * x.stride0 + head * x.stride1 + i]);
  }
}

}  // namespace

void rope_table(const RopeTableParams& params, const OpStream& stream) {
  launch(stream, rope_table_kernel, dim3{static_cast<unsigned>(params.positions.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, static_cast<const int32_t*>(params.positions.data),
         static_cast<const double*>(params.inv_freq.data),
         static_cast<const int32_t*>(params.sets.data), params.scale, rows_of<float>(params.cos),
         rows_of<float>(params.sin), params.inv_freq.shape[0], params.inv_freq.shape[1],
         stream.faults());
}

void rope(const RopeParams& params, const OpStream& stream) {
  launch(stream, rope_kernel, dim3{static_cast<unsigned>(params.x.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, rows_of<float>(params.x), rows_of<float>(params.cos),
         rows_of<float>(params.sin), float_rows_of(params.out), params.x.shape[1],
         params.x.shape[2], params.cos.shape[1]);
}

}  // namespace quire::cuda
