#pragma once

#include <memory>
#include <span>

#include "kernels/cpu/matmul.h"

namespace quire::cpu {

/// Weights as panels of 64 columns, for panel_dot's products. A call reads the weight once per 126
/// of its rows: with fewer it runs at the speed of memory, with more at that of arithmetic.
/// REQUIRES: panel_dot::has_bf16(), bf16 parts.
std::unique_ptr<CpuWeight> make_bf16_panels(std::span<const ConstTensorView> parts);
/// REQUIRES: panel_dot::has_int8(), bf16 parts.
std::unique_ptr<CpuWeight> make_int8_panels(std::span<const ConstTensorView> parts);

}  // namespace quire::cpu
