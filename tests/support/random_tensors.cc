#include "tests/support/random_tensors.h"

#include <numeric>
#include <utility>

namespace quire::test {

double RandomTensors::uniform() { return generator_() * 0x1p-32; }

std::vector<float> RandomTensors::normal(size_t count, float scale) {
  std::vector<float> values(count);
  for (float& value : values) {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    value = static_cast<float>(sum) * scale;
  }
  return values;
}

std::vector<BFloat16> RandomTensors::normal_bf16(size_t count, float scale) {
  std::vector<BFloat16> values;
  for (const float value : normal(count, scale)) values.push_back(to_bfloat16(value));
  return values;
}

std::vector<int32_t> RandomTensors::integers(size_t count, int32_t low, int32_t high) {
  std::vector<int32_t> values(count);
  for (int32_t& value : values) {
    value = low + static_cast<int32_t>(uniform() * static_cast<double>(high - low + 1));
  }
  return values;
}

std::vector<BFloat16> RandomTensors::integers_bf16(size_t count, int32_t low, int32_t high) {
  std::vector<BFloat16> values;
  for (const int32_t value : integers(count, low, high)) {
    values.push_back(to_bfloat16(static_cast<float>(value)));
  }
  return values;
}

std::vector<int32_t> RandomTensors::permutation(size_t count) {
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(uniform() * static_cast<double>(i))]);
  }
  return order;
}

}  // namespace quire::test
