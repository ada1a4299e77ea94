#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void seal_blocks(const SealBlocksParams& params) {
  const PagedKvView& kv = params.kv;
  const int32_t* block_ids = params.block_ids.data_as<int32_t>();
  const int64_t head_dim = kv.head_dim(), block_size = kv.block_size();
  const float inverse = 1.0f / static_cast<float>(block_size);
  parallel_for(params.block_ids.shape[0] * kv.num_kv_heads(), 4, [&](int64_t item) {
    const int64_t block = block_ids[item / kv.num_kv_heads()], g = item % kv.num_kv_heads();
    QUIRE_CHECK(block >= 0 && block < kv.num_blocks())
        << "block " << block << " of " << kv.num_blocks();
    // The contract's order, per dimension: runs of kCentroidRun tokens, then the runs.
    std::vector<float> sum(static_cast<size_t>(head_dim), 0.0f), sub_sum(sum.size());
    for (int64_t run = 0; run < block_size; run += kCentroidRun) {
      std::fill(sub_sum.begin(), sub_sum.end(), 0.0f);
      for (int64_t j = run; j < std::min<int64_t>(run + kCentroidRun, block_size); ++j) {
        const auto* key = reinterpret_cast<const BFloat16*>(address(kv.k, block, g, j));
        for (size_t i = 0; i < sub_sum.size(); ++i) sub_sum[i] += quire::to_float(key[i]);
      }
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += sub_sum[i];
    }
    for (float& value : sum) value *= inverse;
    to_bfloat16(sum.data(), head_dim, reinterpret_cast<BFloat16*>(address(kv.centroids, block, g)));
  });
}

}  // namespace quire::cpu
