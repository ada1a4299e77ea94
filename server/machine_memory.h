#pragma once

#include <cstdint>

namespace quire {

/// Bytes that this process can still take without swapping: what the kernel says is available,
/// within the control group's limit. 0 if neither can be read.
uint64_t available_memory_bytes();

}  // namespace quire
