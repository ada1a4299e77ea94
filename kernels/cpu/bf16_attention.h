#pragma once

#include <cstdint>

#include "kernels/cpu/attention_tile.h"

// attention_tile.h by AVX512_BF16's dot products. Only where bf16_dot::is_available().
//
// Weights are rounded to bf16 before they multiply the values, and their sum is that of the rounded
// weights: the result stays a weighted mean of the values, so that what rounding adds to a weight
// counts only as far as its value differs from the result (a constant comes back exactly).
// Per row: a score is one chain over pairs of head_dim, an output element one chain over pairs of
// keys, a sum a fixed tree; none depends on the number of rows.

namespace quire::cpu::bf16_attention {

int64_t packed_values_size(int64_t head_dim);
/// packed: [kTileKeys / 2, padded head_dim, 2] bf16.
void pack_values(const BFloat16* const* values, int64_t num_keys, int64_t head_dim, float* packed);
void attend_tile(const AttendTile& tile);

}  // namespace quire::cpu::bf16_attention
