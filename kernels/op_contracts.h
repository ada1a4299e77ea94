#pragma once

#include "kernels/backend.h"

namespace quire {

// The shape comments of kernels/ops/*.h, executed. Every backend calls `verify` first in each op,
// so all of them refuse the same things in the same words. Throws ContractError before anything is
// written. Reads shapes only, never tensor contents, which may lie in device memory.

/// What queries, and a cache's keys and values, may be.
enum class AttentionTypes : uint8_t {
  kRounded,  // bf16, and int8 in a cache
  kF32Too,   // on a backend that has_f32_attention()
};

void verify(const AddBiasParams& params);
void verify(const EmbeddingParams& params);
void verify(const MatmulParams& params);
void verify(const RmsNormParams& params);
void verify(const HeadNormParams& params);
void verify(const RopeTableParams& params);
void verify(const RopeParams& params);
void verify(const AppendKvParams& params, AttentionTypes types = AttentionTypes::kRounded);
void verify(const SealBlocksParams& params, AttentionTypes types = AttentionTypes::kRounded);
void verify(const SealUnitsParams& params, AttentionTypes types = AttentionTypes::kRounded);
void verify(const MobaGateParams& params, AttentionTypes types = AttentionTypes::kRounded);
void verify(const MobaAttentionParams& params, AttentionTypes types = AttentionTypes::kRounded);
void verify(const FullAttentionParams& params, AttentionTypes types = AttentionTypes::kRounded);
void verify(const SiluMulParams& params);
void verify(const SampleParams& params);

/// Checks the parts of one packed weight: contiguous [n_i, k], one dtype, bf16 or f32.
/// Of Backend::pack_blocks.
void verify_block_parts(std::span<const BlockMatrix> parts);
void verify_fp8_parts(std::span<const Fp8Matrix> parts);
void verify_weight_parts(std::span<const ConstTensorView> parts, WeightFormat format);

}  // namespace quire
