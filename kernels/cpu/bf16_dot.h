#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"

// Scores by AVX512_BF16's dot products: two products of bf16 a lane and instruction, summed in f32.
// simd_rows.h says what the functions do and chooses between these and Highway's; layouts differ.
// A score is one chain over pairs of head_dim, whatever the number of rows and keys.

namespace quire::cpu::bf16_dot {

/// Whether this CPU has the instructions.
bool is_available();

/// A query row: head_dim bf16, padded with zeros to a multiple of two. Strides are in floats.
int64_t query_stride(int64_t head_dim);
void pack_query(const BFloat16* query, int64_t head_dim, float* packed);
/// packed: [head_dim / 2, kTileKeys, 2] bf16.
void pack_keys(const BFloat16* const* keys, int64_t num_keys, int64_t head_dim, float* packed);
void score_tile(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                float* scores);
void score_above(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                 const float* thresholds, float* scores, uint64_t* masks);

void score_pairs(const float* const* queries, const BFloat16* const* keys, int64_t num_pairs,
                 int64_t head_dim, float* scores);

}  // namespace quire::cpu::bf16_dot
