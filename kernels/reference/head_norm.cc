#include "kernels/ops/head_norm.h"

#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void head_norm(const HeadNormParams& params) {
  const int64_t head_dim = params.x.shape[2];
  for (int64_t t = 0; t < params.x.shape[0]; ++t) {
    for (int64_t h = 0; h < params.x.shape[1]; ++h) {
      double sum_of_squares = 0;
      for (int64_t i = 0; i < head_dim; ++i) {
        const double x = load(params.x, t, h, i);
        sum_of_squares += x * x;
      }
      const double mean = sum_of_squares / static_cast<double>(head_dim);
      const double inverse = 1.0 / std::sqrt(mean + static_cast<double>(params.epsilon));
      for (int64_t i = 0; i < head_dim; ++i) {
        const double normed = static_cast<double>(load(params.x, t, h, i)) * inverse;
        store(params.x, static_cast<float>(normed * static_cast<double>(load(params.weight, i))), t,
              h, i);
      }
    }
  }
}

}  // namespace quire::reference
