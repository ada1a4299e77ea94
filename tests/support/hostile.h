#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/device_tensor.h"

namespace quire::test {

struct KvShape {
  int64_t num_kv_heads = 2;
  int64_t head_dim = 16;
  int64_t block_size = 4;
  int64_t num_heads = 4;
  DType dtype = DType::kBF16;  // of the cache's keys and values; kI8: with scales
  SelectionSchedule schedule = {};
  BlockDigest digest = BlockDigest::kMean;

  int64_t digest_dim() const { return quire::digest_dim(digest, head_dim); }
};

/// A row of an int8 cache by the formula of kernels/ops/append_kv.h, written here once more.
struct QuantizedRow {
  std::vector<int8_t> integers;
  BFloat16 scale;

  /// What a reader of the cache sees.
  float value(size_t i) const { return static_cast<float>(integers[i]) * to_float(scale); }
};
QuantizedRow quantize(std::span<const float> row);

/// One sequence as a kernel's user thinks of it: tokens in order, no blocks.
struct Sequence {
  int64_t num_tokens = 0;
  std::vector<BFloat16> query;  // [num_tokens, num_heads, head_dim]
  std::vector<BFloat16> key;    // [num_tokens, num_kv_heads, head_dim]
  std::vector<BFloat16> value;  // [num_tokens, num_kv_heads, head_dim]
};

/// Tokens [first, end) of a sequence as queries; the cache holds tokens [0, end) and nothing else.
struct Piece {
  const Sequence* sequence = nullptr;
  int64_t first = 0;
  int64_t end = 0;
  int32_t top_k = 3;

  int64_t num_tokens() const { return end - first; }
};

/// A block pool and a batch as unkind as the contract allows: block ids shuffled, a foreign block
/// beside every used one, NaN in every slot that holds no token and in the centroid of every block
/// or selection unit that is not full, INT_MIN behind the end of a block table, tensors with gaps
/// between their rows, query rows before and behind the batch that belong to nobody.
class HostileBatch {
 public:
  static constexpr int64_t kForeignRows = 2;  // before and behind the batch's own rows

  HostileBatch(Backend& backend, const KvShape& shape, const std::vector<Piece>& pieces,
               uint32_t placement_seed);

  PagedKvView kv() const;
  RaggedBatchView batch() const { return batch_; }
  ConstTensorView query() const { return query_; }
  ConstTensorView top_k() const { return top_k_; }
  int64_t num_rows() const { return query_.view().shape[0]; }
  int32_t block_id(size_t piece, int64_t logical_block) const {
    return block_ids_[piece][static_cast<size_t>(logical_block)];
  }

  /// Of a downloaded [num_rows, width] output: the batch's own rows. Fails where a foreign row does
  /// not hold poison any more.
  template <class T>
  std::vector<T> own_rows(const std::vector<T>& all) const {
    const auto skipped = static_cast<std::ptrdiff_t>(all.size()) / num_rows() * kForeignRows;
    const auto is_own = [&](std::ptrdiff_t i) {
      return i >= skipped && i < static_cast<std::ptrdiff_t>(all.size()) - skipped;
    };
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(all.size()); ++i) {
      QUIRE_CHECK(is_own(i) || DeviceTensor<T>::is_poison(all[static_cast<size_t>(i)]))
          << "an op wrote element " << i << " of a row outside of the batch";
    }
    return {all.begin() + skipped, all.end() - skipped};
  }

 private:
  struct Host;
  HostileBatch(Backend& backend, const KvShape& shape, const Host& host);

  std::vector<std::vector<int32_t>> block_ids_;
  DeviceTensor<BFloat16> k_, v_, centroids_;  // k and v of a bf16 cache
  BlockDigest digest_;
  DeviceTensor<BFloat16> query_;
  DeviceTensor<int8_t> k_integers_, v_integers_;  // of an int8 cache
  DeviceTensor<BFloat16> k_scales_, v_scales_;
  DeviceTensor<BFloat16> unit_centroids_;  // no stage without a schedule
  DeviceTensor<int32_t> cu_query_lens_, kv_lens_, block_tables_, top_k_;
  RaggedBatchView batch_;
};

/// The centroid of one full block by the formula of kernels/ops/seal_blocks.h, written here once
/// more: tests must not take it from the code that they test. In an int8 cache it is the centroid
/// of what the keys became. `keys` points at the block's first
/// token in a [num_tokens, num_kv_heads, head_dim] array.
std::vector<BFloat16> centroid_of(const BFloat16* keys, const KvShape& shape);

/// What the cache keeps of that block, [num_kv_heads, digest_dim]: its centroid, or another digest
/// by the formulas that kernels/block_digest.h gives in words, written here once more, in f64.
std::vector<BFloat16> digest_of(const BFloat16* keys, const KvShape& shape);

/// The centroid of a unit of `group` blocks, by the formula of kernels/ops/seal_units.h, from the
/// keys of its first token on.
std::vector<BFloat16> unit_centroid_of(const BFloat16* keys, int64_t group, const KvShape& shape);

}  // namespace quire::test
