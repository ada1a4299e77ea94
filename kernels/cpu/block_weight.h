#pragma once

#include <memory>
#include <span>

#include "kernels/cpu/matmul.h"
#include "kernels/quant/block_matrix.h"

namespace quire::cpu {

/// Weights that stay in their blocks (block_words.h): a call widens 64 rows by 256 columns of them
/// at a time into the cache, once per 126 of its rows, and multiplies those as bf16. So the result
/// has the bits of a bf16 weight with the same numbers. REQUIRES: panel_dot::has_bf16().
std::unique_ptr<CpuWeight> make_block_panels(std::span<const BlockMatrix> parts);

}  // namespace quire::cpu
