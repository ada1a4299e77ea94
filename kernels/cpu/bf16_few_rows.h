#pragma once

#include <cstdint>

#include "kernels/cpu/attention_tile.h"

// Few rows (decode) against keys and values where the cache has them. Packing a tile takes several
// times what one row needs from it; here 16 keys at a time are transposed in registers, which serve
// all the rows and never reach memory. Per row the operations and their order are those of
// bf16_dot.h and bf16_attention.h, so results have the same bits. Only where
// bf16_dot::is_available().

namespace quire::cpu::bf16_few_rows {

/// Whether the functions below take rows of this kind.
bool takes(int64_t num_rows, int64_t head_dim);

/// simd_rows.h's score_above_in_place.
void score_above(const FewRows& rows, float* scores, uint64_t* masks);

/// attend_tile for rows that see all of the tile's keys: limits[r] == num_keys.
void attend(const AttendTile& tile, const TileRowsInPlace& rows);

}  // namespace quire::cpu::bf16_few_rows
