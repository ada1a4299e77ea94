#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/backend_registry.h"

namespace quire {

/// The fast backend for plain CPUs: oneDNN products, Highway loops, OpenMP threads.
std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

namespace cpu {

void add_bias(const AddBiasParams& params);
void embedding(const EmbeddingParams& params);
void head_norm(const HeadNormParams& params);
void rms_norm(const RmsNormParams& params);
void rope_table(const RopeTableParams& params);
void rope(const RopeParams& params);
void append_kv(const AppendKvParams& params);
void seal_blocks(const SealBlocksParams& params);
void seal_units(const SealUnitsParams& params);
void moba_gate(const MobaGateParams& params);
void moba_attention(const MobaAttentionParams& params);
void full_attention(const FullAttentionParams& params);
void silu_mul(const SiluMulParams& params);
void sample(const SampleParams& params);

}  // namespace cpu
}  // namespace quire
