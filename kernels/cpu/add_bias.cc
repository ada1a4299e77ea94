#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void add_bias(const AddBiasParams& params) {
  const int64_t width = params.x.shape[1];
  std::vector<float> bias(static_cast<size_t>(width));
  read_row(params.bias.data, params.bias.dtype, width, bias.data());
  parallel_for(params.x.shape[0], 16, [&](int64_t row) {
    auto* x = reinterpret_cast<float*>(address(params.x, row));
    for (int64_t i = 0; i < width; ++i) x[i] += bias[static_cast<size_t>(i)];
  });
}

}  // namespace quire::cpu
