#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {

void embedding(const EmbeddingParams& params) {
  const int32_t* tokens = params.tokens.data_as<int32_t>();
  const int64_t vocab_size = params.table.shape[0], width = params.table.shape[1];
  parallel_for(params.tokens.shape[0], 64, [&](int64_t t) {
    QUIRE_CHECK(tokens[t] >= 0 && tokens[t] < vocab_size)
        << "token " << tokens[t] << " of " << vocab_size;
    read_row(address(params.table, tokens[t]), params.table.dtype, width,
             reinterpret_cast<float*>(address(params.out, t)));
  });
}

}  // namespace quire::cpu
