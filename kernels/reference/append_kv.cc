#include "kernels/ops/append_kv.h"

#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {
namespace {

/// The least bf16 number that is not below `value`. REQUIRES: finite, not negative.
float round_up_to_bfloat16(float value) {
  BFloat16 rounded = to_bfloat16(value);
  if (to_float(rounded) < value) ++rounded.bits;
  return to_float(rounded);
}

/// Stores row [t, g, :] of `from` as integers and a scale.
void quantise_kv_row(const ConstTensorView& from, int64_t t, int64_t g, const TensorView& integers,
                     const TensorView& scales, int64_t block, int64_t offset) {
  const int64_t head_dim = integers.shape[3];
  float largest = 0;
  for (int64_t i = 0; i < head_dim; ++i) {
    const float size = std::fabs(load(from, t, g, i));
    largest = std::isfinite(size) ? std::max(largest, size) : HUGE_VALF;
    if (std::isinf(largest)) break;
  }
  const bool is_finite = std::isfinite(largest);
  const float scale = is_finite ? round_up_to_bfloat16(largest / 127.0f) : NAN;
  store(scales, scale, block, g, offset);
  for (int64_t i = 0; i < head_dim; ++i) {
    float quotient = 0;
    if (is_finite && scale > 0) quotient = std::nearbyint(load(from, t, g, i) / scale);
    static_cast<int8_t*>(integers.data)[offset_of(integers, block, g, offset, i)] =
        static_cast<int8_t>(std::clamp(quotient, -127.0f, 127.0f));
  }
}

}  // namespace

void append_kv(const AppendKvParams& params) {
  const PagedKvView& kv = params.kv;
  const int64_t num_slots = kv.num_blocks() * kv.block_size();
  for (int64_t t = 0; t < params.slots.shape[0]; ++t) {
    const int64_t slot = get<int64_t>(params.slots, t);
    QUIRE_CHECK(slot >= 0 && slot < num_slots) << "slot " << slot << " of " << num_slots;
    const int64_t block = slot / kv.block_size(), offset = slot % kv.block_size();
    for (int64_t g = 0; g < kv.num_kv_heads(); ++g) {
      if (kv.is_int8()) {
        quantise_kv_row(params.key, t, g, kv.k, kv.k_scales, block, offset);
        quantise_kv_row(params.value, t, g, kv.v, kv.v_scales, block, offset);
        continue;
      }
      for (int64_t i = 0; i < kv.head_dim(); ++i) {
        store(kv.k, load(params.key, t, g, i), block, g, offset, i);
        store(kv.v, load(params.value, t, g, i), block, g, offset, i);
      }
    }
  }
}

}  // namespace quire::reference
