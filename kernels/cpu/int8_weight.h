#pragma once

#include <memory>
#include <span>

#include "kernels/cpu/matmul.h"

namespace quire::cpu {

/// An int8 weight kept row by row, for CPUs without AVX512_VNNI.
std::unique_ptr<CpuWeight> make_int8_rows(std::span<const ConstTensorView> parts);

}  // namespace quire::cpu
