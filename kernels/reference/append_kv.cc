#include "kernels/ops/append_kv.h"

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

void append_kv(const AppendKvParams& params) {
  const PagedKvView& kv = params.kv;
  const int64_t num_slots = kv.num_blocks() * kv.block_size();
  for (int64_t t = 0; t < params.slots.shape[0]; ++t) {
    const int64_t slot = get<int64_t>(params.slots, t);
    QUIRE_CHECK(slot >= 0 && slot < num_slots) << "slot " << slot << " of " << num_slots;
    const int64_t block = slot / kv.block_size(), offset = slot % kv.block_size();
    for (int64_t g = 0; g < kv.num_kv_heads(); ++g) {
      for (int64_t i = 0; i < kv.head_dim(); ++i) {
        store(kv.k, load(params.key, t, g, i), block, g, offset, i);
        store(kv.v, load(params.value, t, g, i), block, g, offset, i);
      }
    }
  }
}

}  // namespace quire::reference
