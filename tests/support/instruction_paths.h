#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quire::test {

/// One way through the kernels of the cpu backend: Highway's target for what is written with it,
/// and which kernels of their own instructions are in use beside it.
struct InstructionPath {
  std::string name;
  int64_t target;
  bool bf16_dot, int8_screen, amx;
};

/// All that were compiled and that this CPU can run: the best target with and without each of the
/// other kernels, and every other target alone.
std::vector<InstructionPath> instruction_paths();

/// The cpu backend runs on one path for as long as this lives, on its best one afterwards. Throws
/// if it would not.
class ForcedPath {
 public:
  explicit ForcedPath(const InstructionPath& path);
  ~ForcedPath();
  ForcedPath(const ForcedPath&) = delete;
  ForcedPath& operator=(const ForcedPath&) = delete;
};

}  // namespace quire::test
