#pragma once

#include <cstdint>

#include "kernels/cuda/plan.h"
#include "kernels/paged_kv.h"

namespace quire::cuda {

/// Head dimensions that the attention and gate kernels are compiled for; others are padded up.
inline constexpr int kMaxHeadDim = 256;

inline AttentionSizes attention_sizes(const ConstTensorView& query, const PagedKvView& kv,
                                      int64_t num_slots) {
  QUIRE_CHECK(kv.head_dim() <= kMaxHeadDim)
      << "head_dim " << kv.head_dim() << ", at most " << kMaxHeadDim;
  QUIRE_CHECK(kv.num_blocks() * kv.num_kv_heads() < INT32_MAX) << kv.num_blocks() << " blocks";
  return {.num_rows = query.shape[0],
          .num_heads = query.shape[1],
          .num_kv_heads = kv.num_kv_heads(),
          .head_dim = kv.head_dim(),
          .num_slots = num_slots,
          .num_buckets = kv.num_blocks() * kv.num_kv_heads()};
}

}  // namespace quire::cuda
