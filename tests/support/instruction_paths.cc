#include "tests/support/instruction_paths.h"

#include <hwy/highway.h>

#include <stdexcept>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/int8_screen.h"
#include "kernels/cpu/simd_rows.h"

namespace quire::test {
namespace {

/// 0: no restriction.
void use_target(int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace

std::vector<InstructionPath> instruction_paths() {
  std::vector<InstructionPath> paths;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target);
    if (paths.empty()) {  // the best one comes first
      const bool bf16_dot = cpu::use_bf16_dot(true), int8_screen = cpu::use_int8_screen(true);
      if (bf16_dot && int8_screen) {
        if (cpu::amx::use(true)) {
          paths.push_back({name + ", bf16 dots, int8 screen by AMX", target, true, true, true});
        }
        paths.push_back({name + ", bf16 dots, int8 screen", target, true, true, false});
      }
      if (bf16_dot) paths.push_back({name + ", bf16 dots", target, true, false, false});
      if (int8_screen) paths.push_back({name + ", int8 screen", target, false, true, false});
    }
    paths.push_back({name, target, false, false, false});
  }
  return paths;
}

ForcedPath::ForcedPath(const InstructionPath& path) {
  use_target(path.target);
  const bool is_forced = cpu::use_bf16_dot(path.bf16_dot) == path.bf16_dot &&
                         cpu::use_int8_screen(path.int8_screen) == path.int8_screen &&
                         cpu::amx::use(path.amx) == path.amx &&
                         cpu::instruction_set().starts_with(hwy::TargetName(path.target));
  if (!is_forced) throw std::runtime_error(path.name + " is not in use");
}

ForcedPath::~ForcedPath() {
  use_target(0);
  cpu::use_bf16_dot(true);
  cpu::use_int8_screen(true);
  cpu::amx::use(true);
}

}  // namespace quire::test
