#include "kernels/ops/seal_blocks.h"

#include <algorithm>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {
namespace {

/// What block_digest.h makes of the block's keys, as a reader sees them.
void seal_digest(const PagedKvView& kv, int64_t block, int64_t g) {
  std::vector<float> keys, digest(static_cast<size_t>(kv.digest_dim()));
  for (int64_t j = 0; j < kv.block_size(); ++j) {
    for (int64_t i = 0; i < kv.head_dim(); ++i) {
      keys.push_back(load_cached(kv.k, kv.k_scales, block, g, j, i));
    }
  }
  make_digest(kv.digest, keys, kv.head_dim(), digest);
  for (size_t i = 0; i < digest.size(); ++i) store(kv.centroids, digest[i], block, g, i);
}

}  // namespace

// The one op whose accumulators are f32 here too: the summation order is part of its contract.
void seal_blocks(const SealBlocksParams& params) {
  const PagedKvView& kv = params.kv;
  const int64_t block_size = kv.block_size();
  const float inverse = 1.0f / static_cast<float>(block_size);
  for (int64_t n = 0; n < params.block_ids.shape[0]; ++n) {
    const int64_t block = get<int32_t>(params.block_ids, n);
    QUIRE_CHECK(block >= 0 && block < kv.num_blocks())
        << "block " << block << " of " << kv.num_blocks();
    for (int64_t g = 0; g < kv.num_kv_heads(); ++g) {
      if (kv.digest != BlockDigest::kMean) {
        seal_digest(kv, block, g);
        continue;
      }
      for (int64_t i = 0; i < kv.head_dim(); ++i) {
        float sum = 0;
        for (int64_t run = 0; run < block_size; run += kCentroidRun) {
          float sub_sum = 0;
          const int64_t end = std::min<int64_t>(run + kCentroidRun, block_size);
          for (int64_t j = run; j < end; ++j) {
            sub_sum += load_cached(kv.k, kv.k_scales, block, g, j, i);
          }
          sum += sub_sum;
        }
        store(kv.centroids, sum * inverse, block, g, i);
      }
    }
  }
}

}  // namespace quire::reference
