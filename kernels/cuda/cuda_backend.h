#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/backend_registry.h"

namespace quire {

/// The devices of this machine, as "cuda:0", "cuda:1", …; where there is none, an absent "cuda:0"
/// with the reason. Asks the driver.
std::vector<BackendInfo> list_cuda_devices();

/// All ops on one NVIDIA GPU of compute capability 8.0 or later. Throws DeviceError.
std::unique_ptr<Backend> make_cuda_backend(int ordinal, const BackendOptions& options);

}  // namespace quire
