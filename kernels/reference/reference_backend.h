#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/backend_registry.h"

namespace quire {

/// The executable specification: plain loops, double accumulators, one file per op. Slow, obvious,
/// and a real backend that a server can run with.
std::unique_ptr<Backend> make_reference_backend(const BackendOptions& options);

namespace reference {

void add_bias(const AddBiasParams& params);
void embedding(const EmbeddingParams& params);
void matmul(const MatmulParams& params);
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

/// Keeps views of the parts, unless the format is another; see Backend::pack_weight.
std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts,
                                          WeightFormat format);
/// Widens and rounds the numbers; see Backend::pack_blocks.
std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts);

}  // namespace reference
}  // namespace quire
