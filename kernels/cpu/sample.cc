#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/reference/reference_backend.h"

namespace quire::cpu {

// A row costs microseconds at the bundled model's vocabulary, and the contract is written in f64
// and in whole-row terms; so each row runs the reference's code, rows in parallel.
void sample(const SampleParams& params) {
  parallel_for(params.logits.shape[0], 1, [&](int64_t row) {
    reference::sample({.logits = params.logits.rows(row, 1),
                       .temperature = params.temperature.rows(row, 1),
                       .top_k = params.top_k.rows(row, 1),
                       .top_p = params.top_p.rows(row, 1),
                       .min_p = params.min_p.rows(row, 1),
                       .uniform = params.uniform.rows(row, 1),
                       .tokens = params.tokens.rows(row, 1),
                       .logprobs = params.logprobs.rows(row, 1)});
  });
}

}  // namespace quire::cpu
