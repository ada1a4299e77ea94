#pragma once

#include "kernels/tensor.h"

namespace quire {

/// out[t, :] = float(table[tokens[t], :]).
/// REQUIRES: every token id is in [0, vocab_size).
struct EmbeddingParams {
  ConstTensorView table;   // [vocab_size, hidden_size] bf16 or f32
  ConstTensorView tokens;  // [num_tokens] i32
  TensorView out;          // [num_tokens, hidden_size] f32, no alias
};

}  // namespace quire
