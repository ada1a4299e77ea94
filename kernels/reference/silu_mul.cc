#include "kernels/ops/silu_mul.h"

#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void silu_mul(const SiluMulParams& params) {
  const int64_t width = params.out.shape[1];
  for (int64_t t = 0; t < params.out.shape[0]; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      const double gate = load(params.gate_up, t, i), up = load(params.gate_up, t, width + i);
      store(params.out, static_cast<float>(gate / (1.0 + std::exp(-gate)) * up), t, i);
    }
  }
}

}  // namespace quire::reference
