#pragma once

#include <cstdint>

#include "kernels/bfloat16.h"

// Rows of an int8 KV cache: head_dim integers and one scale. kernels/ops/append_kv.h fixes every
// bit of it. Written with Highway, as simd_rows.h is.

namespace quire::cpu {

/// Integers and scale of one row.
void quantise_kv_row(const float* in, int64_t count, int8_t* out, BFloat16* scale);

/// out[i] = in[i] * scale, exact.
void dequantise_kv_row(const int8_t* in, float scale, int64_t count, float* out);

/// out[i] = bf16(in[i] * scale), round to nearest even.
void dequantise_kv_row(const int8_t* in, float scale, int64_t count, BFloat16* out);

}  // namespace quire::cpu
