#include "kernels/ops/seal_units.h"

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

// In f32, as in seal_blocks: the order of the sum is part of the contract.
void seal_units(const SealUnitsParams& params) {
  const PagedKvView& kv = params.kv;
  const int64_t group = params.members.shape[1];
  const float inverse = 1.0f / static_cast<float>(group);
  for (int64_t n = 0; n < params.members.shape[0]; ++n) {
    for (int64_t m = 0; m < group; ++m) {
      const int64_t block = get<int32_t>(params.members, n, m);
      QUIRE_CHECK(block >= 0 && block < kv.num_blocks())
          << "block " << block << " of " << kv.num_blocks();
    }
    for (int64_t g = 0; g < kv.num_kv_heads(); ++g) {
      for (int64_t i = 0; i < kv.head_dim(); ++i) {
        float sum = 0;
        for (int64_t m = 0; m < group; ++m) {
          sum += load(kv.centroids, get<int32_t>(params.members, n, m), g, i);
        }
        store(kv.unit_centroids, sum * inverse, params.stage,
              get<int32_t>(params.members, n, group - 1), g, i);
      }
    }
  }
}

}  // namespace quire::reference
