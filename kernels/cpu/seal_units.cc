#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void seal_units(const SealUnitsParams& params) {
  const PagedKvView& kv = params.kv;
  const int32_t* members = params.members.data_as<int32_t>();
  const int64_t group = params.members.shape[1], head_dim = kv.head_dim();
  const float inverse = 1.0f / static_cast<float>(group);
  for (int64_t i = 0; i < params.members.num_elements(); ++i) {
    QUIRE_CHECK(members[i] >= 0 && members[i] < kv.num_blocks())
        << "block " << members[i] << " of " << kv.num_blocks();
  }
  parallel_for(params.members.shape[0] * kv.num_kv_heads(), 4, [&](int64_t item) {
    const int32_t* unit = members + item / kv.num_kv_heads() * group;
    const int64_t g = item % kv.num_kv_heads();
    std::vector<float> sum(static_cast<size_t>(head_dim), 0.0f);
    for (int64_t m = 0; m < group; ++m) {
      const auto* centroid = reinterpret_cast<const BFloat16*>(address(kv.centroids, unit[m], g));
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += quire::to_float(centroid[i]);
    }
    for (float& value : sum) value *= inverse;
    to_bfloat16(
        sum.data(), head_dim,
        reinterpret_cast<BFloat16*>(address(kv.unit_centroids, params.stage, unit[group - 1], g)));
  });
}

}  // namespace quire::cpu
