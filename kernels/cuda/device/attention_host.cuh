#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <numbers>
#include <type_traits>

#include "kernels/cuda/device/attend.cuh"
#include "kernels/cuda/device/batch.cuh"
#include "kernels/cuda/device_stream.h"
#include "kernels/paged_kv.h"

namespace quire::cuda {

/// Calls `with(std::integral_constant<int, N>)` for the smallest compiled N that holds head_dim.
template <class With>
void for_head_dim(int64_t head_dim, const With& with) {
  if (head_dim <= 64) {
    with(std::integral_constant<int, 64>());
  } else if (head_dim <= 128) {
    with(std::integral_constant<int, 128>());
  } else {
    with(std::integral_constant<int, 256>());
  }
}

/// The same with the type of a pool's elements: `with(std::integral_constant<int, N>, Element())`.
template <class With>
void for_pool(const PagedKvView& kv, const With& with) {
  for_head_dim(kv.head_dim(), [&](auto head_dim) {
    if (kv.is_int8()) {
      with(head_dim, int8_t());
    } else {
      with(head_dim, BFloat16());
    }
  });
}

/// A pool as kernels read it.
inline CachedPool cached_pool_of(const PagedKvView& kv) {
  const bool is_aligned = kv.head_dim() * element_bytes(kv.k.dtype) % 16 == 0 &&
                          is_16_byte_aligned(kv.k.data) && is_16_byte_aligned(kv.v.data);
  return {{kv.k.data, static_cast<const BFloat16*>(kv.k_scales.data)},
          {kv.v.data, static_cast<const BFloat16*>(kv.v_scales.data)},
          static_cast<int>(kv.head_dim()),
          is_aligned};
}

/// What the kernels of every op over a paged cache need to know of its call.
struct AttentionCall {
  Batch batch;
  Pass pass;
  int32_t num_heads, group_size, num_kv_heads, block_size;
  int64_t num_blocks;
  FaultSink faults;
};

/// Everything but the pass.
template <class Params>
AttentionCall attention_call_of(const Params& params, const OpStream& stream) {
  const ConstTensorView& query = params.query;
  const PagedKvView& kv = params.kv;
  return {.batch = batch_of(params.batch, query.shape[0], kv.block_size()),
          .pass = {},
          .num_heads = static_cast<int32_t>(query.shape[1]),
          .group_size = static_cast<int32_t>(query.shape[1] / kv.num_kv_heads()),
          .num_kv_heads = static_cast<int32_t>(kv.num_kv_heads()),
          .block_size = static_cast<int32_t>(kv.block_size()),
          .num_blocks = kv.num_blocks(),
          .faults = stream.faults()};
}

/// Everything but the partials.
inline Attention attention_of(const ConstTensorView& query, const PagedKvView& kv,
                              float softmax_scale) {
  Attention attention{};
  attention.query = static_cast<const BFloat16*>(query.data);
  attention.pool = cached_pool_of(kv);
  attention.head_dim = static_cast<int>(kv.head_dim());
  attention.scale_log2 =
      static_cast<float>(static_cast<double>(softmax_scale) * std::numbers::log2e);
  attention.is_query_aligned = kv.head_dim() % 8 == 0 && query.stride[0] % 8 == 0 &&
                               query.stride[1] % 8 == 0 && is_16_byte_aligned(query.data);
  return attention;
}

}  // namespace quire::cuda
