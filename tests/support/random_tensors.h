#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/bfloat16.h"

namespace quire::test {

/// Seeded values for tests. Draws from the bare generator, not from <random>'s distributions, whose
/// results differ between standard libraries: a seed names the same data everywhere.
class RandomTensors {
 public:
  explicit RandomTensors(uint32_t seed) : generator_(seed) {}

  /// About standard normal (a sum of twelve uniforms), times `scale`.
  std::vector<float> normal(size_t count, float scale = 1.0f);
  std::vector<BFloat16> normal_bf16(size_t count, float scale = 1.0f);

  /// Whole numbers in [low, high].
  std::vector<int32_t> integers(size_t count, int32_t low, int32_t high);
  std::vector<BFloat16> integers_bf16(size_t count, int32_t low, int32_t high);

  /// 0 .. count - 1, shuffled.
  std::vector<int32_t> permutation(size_t count);

  /// In [0, 1).
  double uniform();

 private:
  std::mt19937 generator_;
};

}  // namespace quire::test
