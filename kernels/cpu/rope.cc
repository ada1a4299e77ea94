#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void rope_table(const RopeTableParams& params) {
  const int32_t* positions = params.positions.data_as<int32_t>();
  const double* all_sets = params.inv_freq.data_as<double>();
  const int32_t* sets = params.sets.data == nullptr ? nullptr : params.sets.data_as<int32_t>();
  const int64_t num_sets = params.inv_freq.shape[0], num_pairs = params.inv_freq.shape[1];
  parallel_for(params.positions.shape[0], 16, [&](int64_t t) {
    const int32_t set = sets == nullptr ? 0 : sets[t];
    QUIRE_CHECK(set >= 0 && set < num_sets) << "rope set " << set << " of " << num_sets;
    const double* inv_freq = all_sets + set * num_pairs;
    auto* cos = reinterpret_cast<float*>(address(params.cos, t));
    auto* sin = reinterpret_cast<float*>(address(params.sin, t));
    for (int64_t i = 0; i < num_pairs; ++i) {
      const double angle = static_cast<double>(positions[t]) * inv_freq[i];
      cos[i] = static_cast<float>(params.scale * std::cos(angle));
      sin[i] = static_cast<float>(params.scale * std::sin(angle));
    }
  });
}

void rope(const RopeParams& params) {
  const int64_t num_heads = params.x.shape[1], head_dim = params.x.shape[2];
  const int64_t half = params.cos.shape[1];
  parallel_for(params.x.shape[0], 16, [&](int64_t t) {
    thread_local std::vector<float> rotated;
    rotated.resize(static_cast<size_t>(head_dim));
    const auto* cos = reinterpret_cast<const float*>(address(params.cos, t));
    const auto* sin = reinterpret_cast<const float*>(address(params.sin, t));
    for (int64_t h = 0; h < num_heads; ++h) {
      const auto* x = reinterpret_cast<const float*>(address(params.x, t, h));
      for (int64_t i = 0; i < half; ++i) {
        rotated[static_cast<size_t>(i)] = x[i] * cos[i] - x[i + half] * sin[i];
        rotated[static_cast<size_t>(i + half)] = x[i + half] * cos[i] + x[i] * sin[i];
      }
      std::copy(x + 2 * half, x + head_dim, rotated.begin() + 2 * half);
      write_row(rotated.data(), head_dim, params.out.dtype, address(params.out, t, h));
    }
  });
}

}  // namespace quire::cpu
