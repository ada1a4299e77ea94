#pragma once

#include <cstdint>

#include "kernels/block_digest.h"
#include "kernels/tensor.h"

// The only description of the KV cache and of a batch that a kernel sees. The layout is fixed for
// all backends, so that one dump, one checker and one poison routine serve them all, and blocks can
// move between devices and tiers as bytes.

namespace quire {

/// One layer's block pool. A tile (block, head) is contiguous.
///
/// In an int8 cache every key and every value has a scale of its own, per token and KV head, and
/// what it holds is, for every reader, the number
///   k[b, g, j, i] * k_scales[b, g, j]
/// (append_kv.h says how both are chosen). A scale that many tokens shared could not be causal: a
/// token's key would depend on tokens behind it, and on how a step cut the prompt. The product is
/// exact in f32, and the integer is exact in bf16: a backend may apply a key's scale to its score
/// and a value's scale to its weight instead. Centroids are bf16 in either cache.
///
/// `digest` says what `centroids` keeps of a block (block_digest.h): its centroid, or something
/// else that a query can score. Selection units are there with centroids only.
struct PagedKvView {
  // [num_blocks, num_kv_heads, block_size, head_dim] bf16 or i8, post-RoPE; f32 on a backend that
  // has_f32_attention()
  TensorView k;
  TensorView v;  // [num_blocks, num_kv_heads, block_size, head_dim], dtype of k
  // [num_blocks, num_kv_heads, digest_dim] bf16; valid iff the block is sealed
  TensorView centroids;
  TensorView k_scales = {};  // [num_blocks, num_kv_heads, block_size] bf16; absent unless k is i8
  TensorView v_scales = {};  // [num_blocks, num_kv_heads, block_size] bf16; absent unless k is i8

  // [num_stages, num_blocks, num_kv_heads, head_dim] bf16; absent without a selection schedule.
  // [s, b] is valid iff block b is the last one of a complete unit of stage s.
  TensorView unit_centroids = {};

  BlockDigest digest = BlockDigest::kMean;

  int64_t num_blocks() const { return k.shape[0]; }
  int64_t num_kv_heads() const { return k.shape[1]; }
  int64_t block_size() const { return k.shape[2]; }
  int64_t head_dim() const { return k.shape[3]; }
  int64_t digest_dim() const { return quire::digest_dim(digest, head_dim()); }
  int64_t num_stages() const {
    return unit_centroids.data == nullptr ? 0 : unit_centroids.shape[0];
  }
  bool is_int8() const { return k.dtype == DType::kI8; }
};

/// Sequences of different lengths, packed without padding. Sequence s owns the query rows
/// [cu_query_lens[s], cu_query_lens[s+1]) of the query tensor; its last query row is the token at
/// position kv_lens[s] - 1, so row r of s stands at kv_lens[s] - (query_len(s) - r).
///
/// cu_query_lens[0] need not be 0: a batch may describe only some of the rows of its tensors (the
/// sequences that run with MoBA, say), and an op touches no other row.
struct RaggedBatchView {
  ConstTensorView cu_query_lens;  // [num_seqs + 1] i32, prefix sum: absolute row numbers
  ConstTensorView kv_lens;        // [num_seqs] i32, tokens in the cache after this step's append
  ConstTensorView
      block_tables;           // [num_seqs, max_blocks] i32 block ids (not slots); -1 past the end
  int32_t max_query_len = 0;  // largest query length; known on the host, to size a launch
  int32_t max_kv_len = 0;     // largest kv_len

  int64_t num_seqs() const { return kv_lens.shape[0]; }
};

}  // namespace quire
