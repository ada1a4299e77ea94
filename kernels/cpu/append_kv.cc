#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/int8_kv.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"

namespace quire::cpu {
namespace {

void copy_row(const void* in, DType dtype, int64_t count, BFloat16* out) {
  if (dtype == DType::kBF16) {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(BFloat16));
  } else {
    to_bfloat16(static_cast<const float*>(in), count, out);
  }
}

/// One token's row of one KV head into its place in `cache`, which is kv.k or kv.v.
void store_row(const void* in, DType dtype, const TensorView& cache, const TensorView& scales,
               int64_t block, int64_t g, int64_t offset) {
  const int64_t head_dim = cache.shape[3];
  char* out = address(cache, block, g, offset);
  if (cache.dtype != DType::kI8) {
    return copy_row(in, dtype, head_dim, reinterpret_cast<BFloat16*>(out));
  }
  thread_local std::vector<float> wide;
  wide.resize(static_cast<size_t>(head_dim));
  read_row(in, dtype, head_dim, wide.data());
  quantise_kv_row(wide.data(), head_dim, reinterpret_cast<int8_t*>(out),
                  reinterpret_cast<BFloat16*>(address(scales, block, g, offset)));
}

}  // namespace

void append_kv(const AppendKvParams& params) {
  const PagedKvView& kv = params.kv;
  const int64_t* slots = params.slots.data_as<int64_t>();
  const int64_t num_slots = kv.num_blocks() * kv.block_size();
  for (int64_t t = 0; t < params.slots.shape[0]; ++t) {
    QUIRE_CHECK(slots[t] >= 0 && slots[t] < num_slots)
        << "slot " << slots[t] << " of " << num_slots;
  }
  parallel_for(params.slots.shape[0], 64, [&](int64_t t) {
    const int64_t block = slots[t] / kv.block_size(), offset = slots[t] % kv.block_size();
    for (int64_t g = 0; g < kv.num_kv_heads(); ++g) {
      store_row(address(params.key, t, g), params.key.dtype, kv.k, kv.k_scales, block, g, offset);
      store_row(address(params.value, t, g), params.value.dtype, kv.v, kv.v_scales, block, g,
                offset);
    }
  });
}

}  // namespace quire::cpu
