#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/quant/block_format.h"

// Panels of weights in blocks: 64 rows of the weight side by side, so that one instruction widens
// the same element of 16 rows to the bf16 words that panel_dot multiplies. A panel takes what the
// blocks of its rows take, but for the six-bit scales, which get a byte.
//
// For each block: the binary16 factors of 64 rows; then for each run of 32 elements their scales
// and minimums, the low four bits of two elements in a byte (Q8_0: the eight bits of each in two),
// and what bits remain, of several words in a byte.

namespace quire::cpu::block_words {

/// Rows of the weight, which are columns of a product's result.
inline constexpr int64_t kColumns = 64;
/// Elements of a run, and words of two bf16 that they become.
inline constexpr int64_t kRunElements = 32, kRunWords = 16;

/// Bytes of one block of a panel.
int64_t panel_block_bytes(BlockFormat format);

/// Puts a block of row `column` of the panel into its place. `panel_block`: panel_block_bytes of
/// memory that held zeros before the first column came.
void put_block(BlockFormat format, const std::byte* block, int64_t column, std::byte* panel_block);

/// words[w, column] = elements 2w and 2w + 1 of the block in that row, as widen_blocks defines them
/// and rounded to bf16. REQUIRES: panel_dot::has_bf16(); `words` aligned to 64 bytes.
void widen_panel_block(BlockFormat format, const std::byte* panel_block, uint32_t* words);

}  // namespace quire::cpu::block_words
