#include "kernels/ops/embedding.h"

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void embedding(const EmbeddingParams& params) {
  const int64_t vocab_size = params.table.shape[0];
  for (int64_t t = 0; t < params.tokens.shape[0]; ++t) {
    const int64_t token = get<int32_t>(params.tokens, t);
    QUIRE_CHECK(token >= 0 && token < vocab_size) << "token " << token << " of " << vocab_size;
    for (int64_t i = 0; i < params.table.shape[1]; ++i) {
      store(params.out, load(params.table, token, i), t, i);
    }
  }
}

}  // namespace quire::reference
