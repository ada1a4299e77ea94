#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"
#include "kernels/cpu/simd_rows.h"

// The inner kernel of attention: rows of queries against one tile of keys and values, folded into a
// running softmax. With AVX512_BF16 scores and weighted values are bf16 dot products and the two
// are fused, so that scores never leave the registers; elsewhere Highway's f32.
//
// Powers of two take the place of powers of e: scores are multiplied by softmax_scale * log2(e).

namespace quire::cpu {

/// Softmax state of rows over the tiles they have seen.
struct SoftmaxRows {
  float* max;  // [num_rows] of scores, scaled for powers of two; -inf where nothing was seen
  float* sum;  // [num_rows], sum of 2^(score - max), of the weights that multiply the values
  float* out;  // [num_rows, padded head_dim], sum of 2^(score - max) * value
};

/// Values are packed as keys are: in a layout that depends on the instruction set. num_keys <=
/// kTileKeys; values behind them are zeros.
int64_t packed_values_size(int64_t head_dim);
void pack_values(const BFloat16* const* values, int64_t num_keys, int64_t head_dim, float* packed);

/// Folds one tile into the state: row r sees its first limits[r] keys (0 to num_keys). Keys and
/// values behind a row's limit have no influence on it, NaN included.
struct AttendTile {
  int64_t num_rows = 0;
  int64_t head_dim = 0;
  int64_t num_keys = 0;               // that were packed
  const float* query = nullptr;       // [num_rows, query_stride(head_dim)], packed
  const int32_t* limits = nullptr;    // [num_rows]
  const float* keys = nullptr;        // packed
  const float* key_scales = nullptr;  // [kTileKeys] factors of the keys' scores; null: all 1
  const float* values = nullptr;      // packed
  float softmax_scale = 0;
  bool is_first = false;  // the state has no value yet: it is written, not read
  SoftmaxRows state;
};
void attend_tile(const AttendTile& tile);

/// Keys and values of a tile where the cache has them, rows of head_dim at equal distances, and
/// those that will be asked for next, which are brought near meanwhile (or the same ones again).
struct TileRowsInPlace {
  const BFloat16 *keys = nullptr, *upcoming_keys = nullptr;
  const BFloat16 *values = nullptr, *upcoming_values = nullptr;
  int64_t key_stride = 0, value_stride = 0;
};
/// Whether attend_in_place takes `tile`, whose keys and values need not be set: few rows that see
/// all keys, on a CPU with AVX512_BF16.
bool attends_in_place(const AttendTile& tile);
/// attend_tile without packing, with the same bits.
void attend_in_place(const AttendTile& tile, const TileRowsInPlace& rows);

/// Folds the state of the same rows over later keys into `into`: one of several parts, always in
/// the order of the keys.
void fold_states(const SoftmaxRows& part, int64_t num_rows, int64_t head_dim,
                 const SoftmaxRows& into);

/// One row's partial softmax states brought together in the order given, and divided by the sum:
/// out[i] = sum_p 2^(max_p - max) * out_p[i] / sum_p 2^(max_p - max) * sum_p.
struct MergePartials {
  const int32_t* places = nullptr;  // [num_partials], rows of `state`
  int64_t num_partials = 0;
  int64_t head_dim = 0;
  SoftmaxRows state;
  float* out = nullptr;  // [padded head_dim]
};
void merge_partials(const MergePartials& partials);

}  // namespace quire::cpu
