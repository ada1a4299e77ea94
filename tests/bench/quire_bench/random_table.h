#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "tests/support/random_tensors.h"

namespace quire::bench {

/// About normal bf16 numbers without end, as pieces of one table that start at random places: fills
/// gigabytes at the speed of a copy. The same seed gives the same numbers everywhere.
class RandomTable {
 public:
  explicit RandomTable(uint32_t seed)
      : normals_(test::RandomTensors(seed).normal(kTableSize)), generator_(seed) {
    set_scale(1.0f);
  }

  /// The standard deviation of what is handed out from now on; 1 before.
  void set_scale(float scale) {
    values_.resize(kTableSize);
    for (size_t i = 0; i < kTableSize; ++i) values_[i] = to_bfloat16(scale * normals_[i]);
  }

  /// Calls take(std::span<const BFloat16>) until `num_elements` were handed out.
  template <class Take>
  void hand_out(int64_t num_elements, const Take& take) {
    while (num_elements > 0) {
      const int64_t count = std::min<int64_t>(num_elements, kPieceSize);
      const size_t first = generator_() % (kTableSize - kPieceSize);
      take(std::span(values_).subspan(first, static_cast<size_t>(count)));
      num_elements -= count;
    }
  }

 private:
  static constexpr size_t kTableSize = size_t{1} << 20;
  static constexpr size_t kPieceSize = size_t{1} << 14;

  std::vector<float> normals_;
  std::vector<BFloat16> values_;
  std::mt19937 generator_;
};

}  // namespace quire::bench
