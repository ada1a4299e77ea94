#pragma once

#include <cstddef>
#include <memory>

#include "kernels/buffer.h"

namespace quire::cpu {

/// Zeroed memory straight from the system, with huge pages where it has them. Pages that nobody
/// touches cost nothing, so a large KV pool uses only what it holds. Throws DeviceError.
std::unique_ptr<DeviceBuffer> allocate_host_memory(size_t bytes);

}  // namespace quire::cpu
