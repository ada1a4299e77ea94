#pragma once

#include "kernels/cuda/device_stream.h"
#include "kernels/ops/add_bias.h"
#include "kernels/ops/append_kv.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/full_attention.h"
#include "kernels/ops/head_norm.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/moba_attention.h"
#include "kernels/ops/moba_gate.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/sample.h"
#include "kernels/ops/seal_blocks.h"
#include "kernels/ops/seal_units.h"
#include "kernels/ops/silu_mul.h"

// The ops, one .cu file each. All enqueue and return. Contracts were verified by the caller.

namespace quire::cuda {

void add_bias(const AddBiasParams& params, const OpStream& stream);
void embedding(const EmbeddingParams& params, const OpStream& stream);
void head_norm(const HeadNormParams& params, const OpStream& stream);
void rms_norm(const RmsNormParams& params, const OpStream& stream);
void rope_table(const RopeTableParams& params, const OpStream& stream);
void rope(const RopeParams& params, const OpStream& stream);
void append_kv(const AppendKvParams& params, const OpStream& stream);
void seal_blocks(const SealBlocksParams& params, const OpStream& stream);
void seal_units(const SealUnitsParams& params, const OpStream& stream);
void moba_gate(const MobaGateParams& params, const OpStream& stream);
void moba_attention(const MobaAttentionParams& params, const OpStream& stream);
void full_attention(const FullAttentionParams& params, const OpStream& stream);
void silu_mul(const SiluMulParams& params, const OpStream& stream);
void sample(const SampleParams& params, const OpStream& stream);

/// out = a * weight^T with kernels of this folder: bf16 on tensor cores, f32 on plain ones. Every
/// element is one sum in order of k, whatever the number of rows. `weight`: [n, k] contiguous.
void product(const ConstTensorView& a, const ConstTensorView& weight, const TensorView& out,
             const OpStream& stream);

}  // namespace quire::cuda
