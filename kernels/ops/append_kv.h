#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// Writes this step's keys and values into their slots, rounded to the cache's dtype:
///   kv.k[slot / block_size, g, slot % block_size, :] = key[t, g, :], likewise v.
/// REQUIRES: slots are distinct and inside the pool.
struct AppendKvParams {
  ConstTensorView key;    // [num_tokens, num_kv_heads, head_dim] bf16 or f32, post-RoPE
  ConstTensorView value;  // [num_tokens, num_kv_heads, head_dim] bf16 or f32; rows may be strided
  ConstTensorView slots;  // [num_tokens] i64, block id * block_size + offset
  PagedKvView kv;         // k and v written, centroids untouched
};

}  // namespace quire
