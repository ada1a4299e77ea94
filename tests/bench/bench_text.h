#pragma once

#include <cstddef>
#include <string>

namespace quire::bench {

/// `num_bytes` of the file that the environment variable names, or of `otherwise`. It is read again
/// and again if it is shorter; a number between two readings keeps them from being the same bytes.
/// Empty if there is no such file.
std::string bench_text(const char* variable, const char* otherwise, size_t num_bytes);

}  // namespace quire::bench
