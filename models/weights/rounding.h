#pragma once

#include <cstddef>
#include <span>

#include "kernels/bfloat16.h"

// Stored numbers as bf16, each rounded to the nearest, ties to even, or as f32. `stored` need not
// be aligned; `out` takes stored.size() / (bytes of an element) numbers.

namespace quire {

/// IEEE float32: loses 16 of 24 significant bits. What is larger than every bf16 becomes infinity.
void round_f32(std::span<const std::byte> stored, BFloat16* out);

/// IEEE float16: loses 3 of 11 significant bits; every exponent fits.
void round_f16(std::span<const std::byte> stored, BFloat16* out);

/// Exact.
void widen_f16(std::span<const std::byte> stored, float* out);
void widen_bf16(std::span<const std::byte> stored, float* out);

}  // namespace quire
