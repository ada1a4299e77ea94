#pragma once

#include "kernels/cpu/amx.h"
#include "kernels/cpu/panel_dot.h"

namespace quire::test {

/// While this lives, the cpu backend does without what `kUse` switches.
template <auto kUse>
class Without {
 public:
  Without() { kUse(false); }
  ~Without() { kUse(true); }
  Without(const Without&) = delete;
  Without& operator=(const Without&) = delete;
};

/// Weights that the cpu backend packs do without AVX512_BF16 and AVX512_VNNI, as on a CPU that does
/// not have them.
using WithoutPanelDots = Without<cpu::panel_dot::use>;
using WithoutAmx = Without<cpu::amx::use>;

}  // namespace quire::test
