#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void silu_mul(const SiluMulParams& params) {
  const int64_t width = params.out.shape[1];
  parallel_for(params.out.shape[0], 16, [&](int64_t t) {
    thread_local std::vector<float> product;
    product.resize(static_cast<size_t>(width));
    const auto* gate = reinterpret_cast<const float*>(address(params.gate_up, t));
    silu_mul_row(gate, gate + width, width, product.data());
    write_row(product.data(), width, params.out.dtype, address(params.out, t));
  });
}

}  // namespace quire::cpu
