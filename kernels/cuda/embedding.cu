#include "kernels/ops/embedding.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void embedding_kernel(FloatRows table, const int32_t* tokens, Rows<float> out,
                                 int64_t vocab_size, int64_t width, FaultSink faults) {
  const int64_t t = blockIdx.x;
  const int64_t token = tokens[t];
  if (token < 0 || token >= vocab_size) {
    if (threadIdx.x == 0) report(faults, FaultKind::kToken, token, vocab_size);
    return;
  }
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    out.data[t * out.stride0 + i] = load(table, token * table.stride0 + i);
  }
}

}  // namespace

void embedding(const EmbeddingParams& params, const OpStream& stream) {
  launch(stream, embedding_kernel, dim3{static_cast<unsigned>(params.tokens.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, float_rows_of(params.table),
         static_cast<const int32_t*>(params.tokens.data), rows_of<float>(params.out),
         params.table.shape[0], params.table.shape[1], stream.faults());
}

}  // namespace quire::cuda
