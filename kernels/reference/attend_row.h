#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/paged_kv.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {

/// Softmax attention of one (row, query head) over listed tokens, textbook style: all scores, their
/// maximum, the weighted sum. full_attention and moba_attention differ in the list alone, so equal
/// lists give equal bits.
class RowAttention {
 public:
  RowAttention(const ConstTensorView& query, const PagedKvView& kv, const RaggedBatchView& batch,
               float softmax_scale)
      : query_(query), kv_(kv), batch_(batch), softmax_scale_(softmax_scale) {}

  /// Writes out[row, head, :]. `positions`: the attended tokens, ascending.
  void attend(int64_t seq, int64_t row, int64_t head, const std::vector<int64_t>& positions,
              const TensorView& out) const {
    const int64_t kv_head = head / (query_.shape[1] / kv_.num_kv_heads());
    const int64_t head_dim = kv_.head_dim();
    std::vector<double> weights;
    double max_score = -HUGE_VAL;
    for (const int64_t position : positions) {
      double score = 0;
      for (int64_t d = 0; d < head_dim; ++d) {
        score += static_cast<double>(load(query_, row, head, d)) *
                 static_cast<double>(load_cached(kv_.k, kv_.k_scales, block_of(seq, position),
                                                 kv_head, position % kv_.block_size(), d));
      }
      weights.push_back(score * static_cast<double>(softmax_scale_));
      max_score = std::fmax(max_score, weights.back());
    }
    double total = 0;
    for (double& weight : weights) {
      weight = std::exp(weight - max_score);
      total += weight;
    }
    for (int64_t d = 0; d < head_dim; ++d) {
      double sum = 0;
      for (size_t i = 0; i < positions.size(); ++i) {
        sum += weights[i] *
               static_cast<double>(load_cached(kv_.v, kv_.v_scales, block_of(seq, positions[i]),
                                               kv_head, positions[i] % kv_.block_size(), d));
      }
      store(out, static_cast<float>(sum / total), row, head, d);
    }
  }

 private:
  int64_t block_of(int64_t seq, int64_t position) const {
    const int64_t block = get<int32_t>(batch_.block_tables, seq, position / kv_.block_size());
    QUIRE_CHECK(block >= 0 && block < kv_.num_blocks())
        << "sequence " << seq << ", position " << position << ": block id " << block;
    return block;
  }

  const ConstTensorView& query_;
  const PagedKvView& kv_;
  const RaggedBatchView& batch_;
  float softmax_scale_;
};

}  // namespace quire::reference
