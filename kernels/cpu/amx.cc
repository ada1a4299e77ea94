#include "kernels/cpu/amx.h"

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace quire::cpu::amx {
namespace {

bool is_wanted = true;

#if defined(__linux__) && defined(__x86_64__)

/// CPUID leaf 7: AMX-BF16, AMX-TILE and AMX-INT8 in EDX. GCC 12 has no name for them.
bool has_instructions() {
  constexpr uint32_t kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  constexpr uint32_t kAll = kBf16 | kTile | kInt8;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAll) == kAll;
}

/// Tiles are 8 KiB of state a thread, so Linux keeps them off until a process asks.
bool ask_system() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl(2)
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool can_use() {
  static const bool can = has_instructions() && ask_system();
  return can;
}

#else

bool can_use() { return false; }

#endif

}  // namespace

bool is_available() { return is_wanted && can_use(); }

bool use(bool wanted) {
  is_wanted = wanted;
  return is_available();
}

}  // namespace quire::cpu::amx
