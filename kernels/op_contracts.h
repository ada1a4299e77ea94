#pragma once

#include "kernels/backend.h"

namespace quire {

// The shape comments of kernels/ops/*.h, executed. Every backend calls `verify` first in each op,
// so all of them refuse the same things in the same words. Throws ContractError before anything is
// written. Reads shapes only, never tensor contents, which may lie in device memory.

void verify(const AddBiasParams& params);
void verify(const EmbeddingParams& params);
void verify(const MatmulParams& params);
void verify(const RmsNormParams& params);
void verify(const HeadNormParams& params);
void verify(const RopeTableParams& params);
void verify(const RopeParams& params);
void verify(const AppendKvParams& params);
void verify(const SealBlocksParams& params);
void verify(const SealUnitsParams& params);
void verify(const MobaGateParams& params);
void verify(const MobaAttentionParams& params);
void verify(const FullAttentionParams& params);
void verify(const SiluMulParams& params);
void verify(const SampleParams& params);

/// Checks the parts of one packed weight: contiguous [n_i, k], one dtype, bf16 or f32.
/// Of Backend::pack_blocks.
void verify_block_parts(std::span<const BlockMatrix> parts);
void verify_fp8_parts(std::span<const Fp8Matrix> parts);
void verify_weight_parts(std::span<const ConstTensorView> parts, WeightFormat format);

}  // namespace quire
