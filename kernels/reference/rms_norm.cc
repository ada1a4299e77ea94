#include "kernels/ops/rms_norm.h"

#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void rms_norm(const RmsNormParams& params) {
  const int64_t width = params.x.shape[1];
  for (int64_t row = 0; row < params.x.shape[0]; ++row) {
    double sum_of_squares = 0;
    for (int64_t i = 0; i < width; ++i) {
      if (params.delta.data != nullptr) {
        store(params.x, load(params.x, row, i) + load(params.delta, row, i), row, i);
      }
      const double x = load(params.x, row, i);
      sum_of_squares += x * x;
    }
    const double mean = sum_of_squares / static_cast<double>(width);
    const double inverse = 1.0 / std::sqrt(mean + static_cast<double>(params.epsilon));
    for (int64_t i = 0; i < width; ++i) {
      const double normed = static_cast<double>(load(params.x, row, i)) * inverse;
      store(params.out, static_cast<float>(normed * static_cast<double>(load(params.weight, i))),
            row, i);
    }
  }
}

}  // namespace quire::reference
