#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device_stream.h"

namespace quire::cuda {

/// More dynamic shared memory than every device gives without being asked.
inline constexpr size_t kDefaultSharedBytes = 48 * 1024;

/// Enqueues a kernel; an empty grid is no work. Throws DeviceError naming the op.
template <class... Parameters, class... Arguments>
void launch(const OpStream& stream, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > kDefaultSharedBytes) {
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (error != cudaSuccess) {
      check(error, stream.op(), "shared memory of " + std::to_string(shared_bytes) + " bytes");
    }
  }
  kernel<<<grid, block, shared_bytes, stream.handle()>>>(arguments...);
  stream.check_launch();
}

}  // namespace quire::cuda
