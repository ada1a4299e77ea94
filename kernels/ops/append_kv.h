#pragma once

#include "kernels/paged_kv.h"

namespace quire {

/// Writes this step's keys and values into their slots, rounded to the cache's dtype:
///   kv.k[slot / block_size, g, slot % block_size, :] = key[t, g, :], likewise v.
///
/// In an int8 cache each row x = key[t, g, :] (or value) becomes a scale and head_dim integers:
///   scale = the least bf16 number >= f32(max |x[i]| / 127)
///   q[i]  = x[i] / scale, divided in f32, rounded to nearest even, held to [-127, 127]
/// The scale is rounded up, so that the largest element reaches 127 at most and none saturates. A
/// row of zeros, or one so small that its scale is 0, is stored as zeros with scale 0. A row with a
/// NaN or an infinity is stored as zeros with scale NaN: it reads back as NaN throughout. All of it
/// is fixed to the last bit and the same on all backends.
/// REQUIRES: slots are distinct and inside the pool.
struct AppendKvParams {
  ConstTensorView key;    // [num_tokens, num_kv_heads, head_dim] bf16 or f32, post-RoPE
  ConstTensorView value;  // [num_tokens, num_kv_heads, head_dim] bf16 or f32; rows may be strided
  ConstTensorView slots;  // [num_tokens] i64, block id * block_size + offset
  PagedKvView kv;         // k and v written, and their scales; centroids untouched
};

}  // namespace quire
