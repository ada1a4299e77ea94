#include "kernels/ops/add_bias.h"

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void add_bias(const AddBiasParams& params) {
  for (int64_t row = 0; row < params.x.shape[0]; ++row) {
    for (int64_t i = 0; i < params.x.shape[1]; ++i) {
      store(params.x, load(params.x, row, i) + load(params.bias, i), row, i);
    }
  }
}

}  // namespace quire::reference
