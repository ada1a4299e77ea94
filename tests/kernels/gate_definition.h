#pragma once

#include <cstdint>
#include <vector>

#include "tests/kernels/attention_case.h"

// The gate's definition, written down once more in f64, with nothing of the ops' own formulas.

namespace quire::test {

/// Scores of one (token, head) for blocks 0 .. current - 1: the product with a block's mean, or
/// what the best corner of its cuboid would have. NaN where the block's digest holds one.
std::vector<double> gate_scores(const KvShape& shape, const Sequence& sequence, int64_t position,
                                int64_t head);

/// What moba_gate must write for all rows of `pieces`, [rows, heads, max_top_k]: the top_k - 1 best
/// past blocks, ties to the more recent, then the current block, ascending and padded with -1.
std::vector<int32_t> expected_selection(const KvShape& shape, const std::vector<Piece>& pieces,
                                        int64_t max_top_k);

}  // namespace quire::test
