#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/int8_kv.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/scratch.h"

namespace quire::cpu {
namespace {

void read_key(const PagedKvView& kv, int64_t block, int64_t g, int64_t j, float* out) {
  const char* key = address(kv.k, block, g, j);
  if (!kv.is_int8()) return read_row(key, DType::kBF16, kv.head_dim(), out);
  const auto* scale = reinterpret_cast<const BFloat16*>(address(kv.k_scales, block, g, j));
  dequantise_kv_row(reinterpret_cast<const int8_t*>(key), quire::to_float(*scale), kv.head_dim(),
                    out);
}

/// What block_digest.h makes of the block's keys, as a reader sees them.
void seal_digest(const PagedKvView& kv, int64_t block, int64_t g) {
  thread_local Scratch<float> scratch;
  const int64_t head_dim = kv.head_dim(), digest_dim = kv.digest_dim();
  const auto num_floats = static_cast<size_t>(kv.block_size() * head_dim);
  float* keys = scratch.reserve(num_floats + static_cast<size_t>(digest_dim));
  float* digest = keys + num_floats;
  for (int64_t j = 0; j < kv.block_size(); ++j) read_key(kv, block, g, j, keys + j * head_dim);
  make_digest(kv.digest, {keys, num_floats}, head_dim, {digest, static_cast<size_t>(digest_dim)});
  to_bfloat16(digest, digest_dim, reinterpret_cast<BFloat16*>(address(kv.centroids, block, g)));
}

}  // namespace

void seal_blocks(const SealBlocksParams& params) {
  const PagedKvView& kv = params.kv;
  const int32_t* block_ids = params.block_ids.data_as<int32_t>();
  const int64_t head_dim = kv.head_dim(), block_size = kv.block_size();
  const float inverse = 1.0f / static_cast<float>(block_size);
  parallel_for(params.block_ids.shape[0] * kv.num_kv_heads(), 4, [&](int64_t item) {
    const int64_t block = block_ids[item / kv.num_kv_heads()], g = item % kv.num_kv_heads();
    QUIRE_CHECK(block >= 0 && block < kv.num_blocks())
        << "block " << block << " of " << kv.num_blocks();
    if (kv.digest != BlockDigest::kMean) return seal_digest(kv, block, g);
    // The contract's order, per dimension: runs of kCentroidRun tokens, then the runs.
    std::vector<float> sum(static_cast<size_t>(head_dim), 0.0f), sub_sum(sum.size()),
        key(sum.size());
    for (int64_t run = 0; run < block_size; run += kCentroidRun) {
      std::fill(sub_sum.begin(), sub_sum.end(), 0.0f);
      for (int64_t j = run; j < std::min<int64_t>(run + kCentroidRun, block_size); ++j) {
        read_key(kv, block, g, j, key.data());
        for (size_t i = 0; i < sub_sum.size(); ++i) sub_sum[i] += key[i];
      }
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += sub_sum[i];
    }
    for (float& value : sum) value *= inverse;
    to_bfloat16(sum.data(), head_dim, reinterpret_cast<BFloat16*>(address(kv.centroids, block, g)));
  });
}

}  // namespace quire::cpu
