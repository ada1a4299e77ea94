#pragma once

#include "kernels/cpu/panel_dot.h"

// The sums of panel_dot.h by AMX's tiles, for any number of rows: a row's bits do not depend on how
// many there are, but they are not those of AVX512_BF16, so a process uses the ones or the others.

namespace quire::cpu::amx_panel {

/// out (+)= a * panel, in f32. A sum goes on from where `adds` has left it with the same bits if
/// every piece of k but the last is a multiple of 32 values. REQUIRES: amx::is_available().
void multiply_bf16(const panel_dot::Product& product);

/// The same of int8 and of the panel's bytes without signs; `out` holds int32.
void multiply_int8(const panel_dot::Product& product);

}  // namespace quire::cpu::amx_panel
