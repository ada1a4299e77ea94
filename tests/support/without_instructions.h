#pragma once

#include "kernels/cpu/amx.h"
#include "kernels/cpu/panel_dot.h"

namespace quire::test {

/// While this lives, weights that the cpu backend packs do without AVX512_BF16 and AVX512_VNNI, as
/// on a CPU that does not have them.
class WithoutPanelDots {
 public:
  WithoutPanelDots() { cpu::panel_dot::use(false); }
  ~WithoutPanelDots() { cpu::panel_dot::use(true); }
  WithoutPanelDots(const WithoutPanelDots&) = delete;
  WithoutPanelDots& operator=(const WithoutPanelDots&) = delete;
};

/// While this lives, the cpu backend does without AMX.
class WithoutAmx {
 public:
  WithoutAmx() { cpu::amx::use(false); }
  ~WithoutAmx() { cpu::amx::use(true); }
  WithoutAmx(const WithoutAmx&) = delete;
  WithoutAmx& operator=(const WithoutAmx&) = delete;
};

}  // namespace quire::test
