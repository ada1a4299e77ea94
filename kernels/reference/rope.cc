#include "kernels/ops/rope.h"

#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void rope_table(const RopeTableParams& params) {
  const int64_t num_sets = params.inv_freq.shape[0];
  for (int64_t t = 0; t < params.positions.shape[0]; ++t) {
    const double position = get<int32_t>(params.positions, t);
    const int64_t set = params.sets.data == nullptr ? 0 : get<int32_t>(params.sets, t);
    QUIRE_CHECK(set >= 0 && set < num_sets) << "rope set " << set << " of " << num_sets;
    for (int64_t i = 0; i < params.inv_freq.shape[1]; ++i) {
      const double angle = position * get<double>(params.inv_freq, set, i);
      store(params.cos, static_cast<float>(params.scale * std::cos(angle)), t, i);
      store(params.sin, static_cast<float>(params.scale * std::sin(angle)), t, i);
    }
  }
}

void rope(const RopeParams& params) {
  const int64_t half = params.cos.shape[1];
  for (int64_t t = 0; t < params.x.shape[0]; ++t) {
    for (int64_t h = 0; h < params.x.shape[1]; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        const float a = load(params.x, t, h, i), b = load(params.x, t, h, i + half);
        const float cos = load(params.cos, t, i), sin = load(params.sin, t, i);
        store(params.out, a * cos - b * sin, t, h, i);
        store(params.out, b * cos + a * sin, t, h, i + half);
      }
      for (int64_t i = 2 * half; i < params.x.shape[2]; ++i) {
        store(params.out, load(params.x, t, h, i), t, h, i);
      }
    }
  }
}

}  // namespace quire::reference
