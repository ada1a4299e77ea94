#pragma once

#include <cstdint>
#include <string>

#include "kernels/bfloat16.h"

// The inner loops of the cpu backend, written once with Highway and compiled for every instruction
// set; the best one is chosen at run time.
//
// What makes tokens independent of batch and chunking is decided here: each result row is computed
// by one fixed sequence of operations, however many rows share a call. A score is one chain of
// fused multiply-adds over head_dim (or pairs of it), an output element one chain over the keys, so
// they do not depend on the vector width; sums across lanes (norms, softmax sums) do.

namespace quire::cpu {

/// Keys (or centroids) that one tile holds.
inline constexpr int64_t kTileKeys = 64;
/// Head dimensions in scratch are padded with zeros to a multiple of this.
inline constexpr int64_t kPadding = 16;
constexpr int64_t padded_dim(int64_t head_dim) {
  return (head_dim + kPadding - 1) / kPadding * kPadding;
}

/// out[i] = float(in[i]).
void to_float(const BFloat16* in, int64_t count, float* out);
/// out[i] = bf16(in[i]), round to nearest even.
void to_bfloat16(const float* in, int64_t count, BFloat16* out);

// Scores of query rows against a tile of keys. Both are packed first, in a layout that depends on
// the instruction set: bf16 pairs where the CPU has dot products of them, else f32.

/// Floats from one packed query row to the next.
int64_t query_stride(int64_t head_dim);
/// Floats that a packed tile takes.
int64_t packed_keys_size(int64_t head_dim);
void pack_query(const BFloat16* query, int64_t head_dim, float* packed);
/// num_keys <= kTileKeys; the rest of the tile scores 0.
void pack_keys(const BFloat16* const* keys, int64_t num_keys, int64_t head_dim, float* packed);

/// scores[r, j] = < query r, key j >. scores: [num_rows, kTileKeys].
void score_tile(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                float* scores);
/// Bit j of masks[r]: not (score < thresholds[r]), so NaN counts. The scores of a row are written
/// if its mask is not 0.
void score_above(const float* query, int64_t num_rows, int64_t head_dim, const float* keys,
                 const float* thresholds, float* scores, uint64_t* masks);

/// score_above for few rows and keys that are not packed. `upcoming`: as many keys that will be
/// asked for next, which are brought near meanwhile; or the same ones.
inline constexpr int64_t kMaxFewRows = 4;
struct FewRows {
  const float* query = nullptr;
  int64_t num_rows = 0, head_dim = 0;
  const BFloat16* const* keys = nullptr;
  const BFloat16* const* upcoming = nullptr;
  int64_t offset = 0;  // from each pointer to its key, in elements
  int64_t num_keys = 0;
  const float* thresholds = nullptr;
};
/// Whether rows of this kind are taken: at most kMaxFewRows, on a CPU with AVX512_BF16.
bool scores_in_place(int64_t num_rows, int64_t head_dim);
void score_above_in_place(const FewRows& rows, float* scores, uint64_t* masks);

/// Scores of single pairs: scores[i] = < query i, key i >, bit for bit what score_tile gives for
/// that row and key. queries: packed rows; keys: not packed; num_pairs <= kMaxPairs.
inline constexpr int64_t kMaxPairs = 16;
void score_pairs(const float* const* queries, const BFloat16* const* keys, int64_t num_pairs,
                 int64_t head_dim, float* scores);

/// Makes this process score without AVX512_BF16, or with it again if the CPU has it; anything
/// packed before is void. For tests; returns whether it is in use now.
bool use_bf16_dot(bool wanted);
bool uses_bf16_dot();

/// One row of rms_norm: x += delta (if given), then out = x / sqrt(mean(x^2) + epsilon) * weight.
/// `out` may be `x`.
struct NormRow {
  int64_t width = 0;
  float* x = nullptr;
  const float* delta = nullptr;   // may be null
  const float* weight = nullptr;  // [width]
  float epsilon = 0;
  float* out = nullptr;
};
void norm_row(const NormRow& row);

/// out[i] = silu(gate[i]) * up[i].
void silu_mul_row(const float* gate, const float* up, int64_t width, float* out);

/// Name of the instruction set in use, for the banner.
std::string instruction_set();

}  // namespace quire::cpu
