#pragma once

// The emulated device's twin of kernels/cuda/launch.cuh.

#include <cuda_runtime.h>

#include "kernels/cuda/device_stream.h"

namespace quire::cuda {

template <class... Parameters, class... Arguments>
void launch(const OpStream& stream, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  emulator::enqueue(reinterpret_cast<const void*>(kernel), [=, op = stream.op()] {
    emulator::run_grid(op, grid, block, shared_bytes,
                       [&] { kernel(static_cast<Parameters>(arguments)...); });
  });
  stream.check_launch();
}

}  // namespace quire::cuda
