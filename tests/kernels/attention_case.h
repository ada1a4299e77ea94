#pragma once

#include <vector>

#include "tests/support/hostile.h"

namespace quire::test {

/// Real-valued, as activations are.
Sequence random_sequence(const KvShape& shape, int64_t num_tokens, uint32_t seed);

/// Whole numbers so small that every order of summation gives the same f32 bits, with centroids
/// that are whole numbers too: keys are a block's row plus noise that cancels within pairs of
/// tokens (docs: "order-free exactness"). Many scores tie. REQUIRES: an even block_size that is a
/// power of two.
Sequence integer_sequence(const KvShape& shape, int64_t num_tokens, uint32_t seed);

/// The whole sequence as one piece.
Piece whole(const Sequence& sequence, int32_t top_k);

/// [num own rows, num_heads, max_top_k]
std::vector<int32_t> run_gate(Backend& backend, const HostileBatch& batch, const KvShape& shape,
                              int64_t max_top_k);

/// [num own rows, num_heads, head_dim]; `selected` as run_gate returns it.
std::vector<float> run_moba_attention(Backend& backend, const HostileBatch& batch,
                                      const KvShape& shape, const std::vector<int32_t>& selected,
                                      int64_t max_top_k);
std::vector<float> run_full_attention(Backend& backend, const HostileBatch& batch,
                                      const KvShape& shape, int32_t window = 0);

/// Gate, then attention on what it selected.
struct MobaResult {
  std::vector<int32_t> selected;
  std::vector<float> out;
};
MobaResult run_moba(Backend& backend, const KvShape& shape, const std::vector<Piece>& pieces,
                    uint32_t placement_seed, int64_t max_top_k);

/// Rows of a result of one whole sequence.
MobaResult rows_of(const MobaResult& all, const KvShape& shape, int64_t first, int64_t end,
                   int64_t max_top_k);

/// The chunks [first, end) that a sequence is cut into. On an emulated device some of them, spread
/// over the sequence, the first and the last included.
struct Chunk {
  int64_t first, end;
};
std::vector<Chunk> chunks_of(const Backend& backend, int64_t num_tokens, int64_t chunk_size);

/// How far an attention output computed in f32 may be from the same in f64: a score is a sum of
/// head_dim products, off by head_dim * u * |q| * |k|, which moves a weight by that share, twice
/// (numerator and normaliser); the sums over n keys add n * u each; all times the largest |v|. A
/// backend may round weights to bf16 (numerator and normaliser alike), which moves each by 2^-8.
double attention_tolerance(const KvShape& shape, const std::vector<Piece>& pieces);

float softmax_scale(const KvShape& shape);

/// Shapes around the edges: block_size 4, a head_dim that fills no vector, blocks of several key
/// tiles, one KV head and several, groups of 1 to 4, keys and values in bf16 and in int8.
std::vector<KvShape> attention_shapes();

}  // namespace quire::test
