#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

// Key-block-major: the (row, head, slot) pairs of a pass are grouped by the block they look at,
// each block's keys and values are widened once, and all its rows are attended together. Every pair
// leaves a partial result (max, sum, weighted values); a row's partials are then merged in slot
// order, which is ascending in the block index with the current block last. A pair's arithmetic
// does not depend on the other pairs, so results do not depend on batch, chunking or grouping.

namespace quire::cpu {
namespace {

constexpr int64_t kTileRows = 32;
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

/// One (row, head, slot): its index in the pass, and what it looks at.
struct Pair {
  int64_t item_key;  // (sequence, kv head, logical block), grouped by it
  int64_t index;     // ((row - first_row) * num_heads + head) * max_top_k + slot
  int32_t limit;     // keys of the block that it sees
};

struct BlockItem {
  int64_t begin, end;  // of the sorted pairs
  int64_t block;       // block id
  int64_t kv_head;
};

class Pass {
 public:
  Pass(const MobaAttentionParams& params, const std::vector<SequenceRows>& sequences,
       int64_t first_row, int64_t end_row)
      : params_(params),
        sequences_(sequences),
        first_row_(first_row),
        end_row_(end_row),
        num_heads_(params.query.shape[1]),
        group_size_(num_heads_ / params.kv.num_kv_heads()),
        max_top_k_(params.selected.shape[2]),
        head_dim_(params.kv.head_dim()),
        stride_(padded_dim(head_dim_)) {}

  void run() {
    collect();
    const auto num_pairs = static_cast<size_t>((end_row_ - first_row_) * num_heads_ * max_top_k_);
    max_.resize(num_pairs);
    sum_.resize(num_pairs);
    out_.resize(num_pairs * static_cast<size_t>(stride_));
    parallel_for(static_cast<int64_t>(items_.size()), 1,
                 [&](int64_t i) { attend(items_[static_cast<size_t>(i)]); });
    for (const SequenceRows& sequence : sequences_) {
      const int64_t begin = std::max(sequence.first_row, first_row_);
      const int64_t end = std::min(sequence.end_row, end_row_);
      if (begin >= end) continue;
      parallel_for((end - begin) * num_heads_, 64,
                   [&](int64_t i) { merge(begin + i / num_heads_, i % num_heads_); });
    }
  }

 private:
  /// Checks the selections and lists the pairs, grouped by block.
  void collect() {
    const int64_t block_size = params_.kv.block_size();
    const int64_t num_kv_heads = params_.kv.num_kv_heads();
    std::vector<int64_t> base(sequences_.size(), 0);  // first item key of each sequence
    int64_t num_keys = 0;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const SequenceRows& sequence = sequences_[s];
      base[s] = num_keys;
      const int64_t begin = std::max(sequence.first_row, first_row_);
      const int64_t end = std::min(sequence.end_row, end_row_);
      if (begin >= end) continue;
      const int64_t last = sequence.first_position + end - 1 - sequence.first_row;
      const int64_t num_blocks = last / block_size + 1;
      for (int64_t row = begin; row < end; ++row) {
        const int64_t position = sequence.first_position + row - sequence.first_row;
        for (int64_t head = 0; head < num_heads_; ++head) {
          const int64_t first_key = base[s] + head / group_size_ * num_blocks;
          collect_row(row, head, position, first_key);
        }
      }
      num_keys += num_kv_heads * num_blocks;
      spans_.push_back({base[s], num_blocks, &sequence});
    }
    group(num_keys);
  }

  void collect_row(int64_t row, int64_t head, int64_t position, int64_t first_key) {
    const int64_t block_size = params_.kv.block_size(), current = position / block_size;
    const auto* selected = reinterpret_cast<const int32_t*>(address(params_.selected, row, head));
    const int64_t index = ((row - first_row_) * num_heads_ + head) * max_top_k_;
    int64_t previous = -1;
    for (int64_t slot = 0; slot < max_top_k_ && selected[slot] != -1; ++slot) {
      const int64_t block = selected[slot];
      QUIRE_CHECK(block > previous && block <= current)
          << "row " << row << ", head " << head << ": selected block " << block << " after "
          << previous << ", current " << current;
      const int64_t limit = std::min(block_size, position + 1 - block * block_size);
      pairs_.push_back({first_key + block, index + slot, static_cast<int32_t>(limit)});
      previous = block;
    }
    QUIRE_CHECK(previous == current)
        << "row " << row << ", head " << head << ": the current block is not selected last";
  }

  /// Sorts the pairs by item key: by counting where keys are not many more than pairs.
  void group(int64_t num_keys) {
    if (num_keys <= 4 * static_cast<int64_t>(pairs_.size())) {
      std::vector<int64_t> next(static_cast<size_t>(num_keys) + 1, 0);
      for (const Pair& pair : pairs_) ++next[static_cast<size_t>(pair.item_key) + 1];
      for (size_t key = 1; key < next.size(); ++key) next[key] += next[key - 1];
      std::vector<Pair> sorted(pairs_.size());
      for (const Pair& pair : pairs_) {
        sorted[static_cast<size_t>(next[static_cast<size_t>(pair.item_key)]++)] = pair;
      }
      pairs_ = std::move(sorted);
    } else {
      std::ranges::stable_sort(pairs_, {}, &Pair::item_key);
    }
    const auto num_pairs = static_cast<int64_t>(pairs_.size());
    for (int64_t begin = 0; begin < num_pairs;) {
      const int64_t key = pairs_[static_cast<size_t>(begin)].item_key;
      int64_t end = begin + 1;
      while (end < num_pairs && pairs_[static_cast<size_t>(end)].item_key == key) ++end;
      const auto span = std::ranges::find_if(spans_.rbegin(), spans_.rend(),
                                             [key](const Span& s) { return s.first_key <= key; });
      const int64_t within = key - span->first_key;
      items_.push_back({begin, end, span->sequence->block_table[within % span->num_blocks],
                        within / span->num_blocks});
      begin = end;
    }
  }

  void attend(const BlockItem& item) {
    thread_local TileScratch scratch(0, 0);
    if (scratch.head_dim != head_dim_) scratch = TileScratch(head_dim_, kTileRows);
    const int64_t block_size = params_.kv.block_size();
    for (int64_t first_key = 0; first_key < block_size; first_key += kTileKeys) {
      int64_t num_keys = 0;  // no row sees a key behind it: it may never have been written
      for (int64_t p = item.begin; p < item.end; ++p) {
        num_keys = std::max<int64_t>(num_keys, pairs_[static_cast<size_t>(p)].limit - first_key);
      }
      if (num_keys <= 0) break;
      num_keys = std::min(num_keys, kTileKeys);
      scratch.load_block(params_.kv, item.block, item.kv_head, first_key, num_keys);
      for (int64_t begin = item.begin; begin < item.end; begin += kTileRows) {
        attend_rows(begin, std::min(begin + kTileRows, item.end), first_key, num_keys, scratch);
      }
    }
  }

  void attend_rows(int64_t begin, int64_t end, int64_t first_key, int64_t num_keys,
                   TileScratch& scratch) {
    thread_local std::vector<float> max, sum, out;
    const int64_t num_rows = end - begin;
    max.assign(static_cast<size_t>(num_rows), -std::numeric_limits<float>::infinity());
    sum.assign(static_cast<size_t>(num_rows), 0.0f);
    out.assign(static_cast<size_t>(num_rows * stride_), 0.0f);
    for (int64_t r = 0; r < num_rows; ++r) {
      const Pair& pair = pairs_[static_cast<size_t>(begin + r)];
      const int64_t row_and_head = pair.index / max_top_k_;
      scratch.load_query(params_.query, first_row_ + row_and_head / num_heads_,
                         row_and_head % num_heads_, r);
      scratch.limits[static_cast<size_t>(r)] =
          static_cast<int32_t>(std::clamp<int64_t>(pair.limit - first_key, 0, num_keys));
      if (first_key > 0) load_partial(pair.index, r, max, sum, out);
    }
    score_tile(scratch.query.data(), num_rows, head_dim_, scratch.keys.data(),
               scratch.scores.data());
    attend_tile({.num_rows = num_rows,
                 .head_dim = head_dim_,
                 .limits = scratch.limits.data(),
                 .values = scratch.values.data(),
                 .softmax_scale = params_.softmax_scale,
                 .scores = scratch.scores.data(),
                 .state = {max.data(), sum.data(), out.data()}});
    for (int64_t r = 0; r < num_rows; ++r) {
      const auto index = static_cast<size_t>(pairs_[static_cast<size_t>(begin + r)].index);
      max_[index] = max[static_cast<size_t>(r)];
      sum_[index] = sum[static_cast<size_t>(r)];
      std::copy_n(out.data() + r * stride_, stride_,
                  out_.data() + index * static_cast<size_t>(stride_));
    }
  }

  void load_partial(int64_t index, int64_t r, std::vector<float>& max, std::vector<float>& sum,
                    std::vector<float>& out) const {
    max[static_cast<size_t>(r)] = max_[static_cast<size_t>(index)];
    sum[static_cast<size_t>(r)] = sum_[static_cast<size_t>(index)];
    std::copy_n(out_.data() + index * stride_, stride_, out.data() + r * stride_);
  }

  void merge(int64_t row, int64_t head) {
    const int64_t first = ((row - first_row_) * num_heads_ + head) * max_top_k_;
    const auto* selected = reinterpret_cast<const int32_t*>(address(params_.selected, row, head));
    int64_t num_slots = 0;
    float max = -std::numeric_limits<float>::infinity();
    while (num_slots < max_top_k_ && selected[num_slots] != -1) {
      max = std::fmax(max, max_[static_cast<size_t>(first + num_slots++)]);
    }
    thread_local std::vector<float> merged;
    merged.assign(static_cast<size_t>(head_dim_), 0.0f);
    float total = 0;
    for (int64_t slot = 0; slot < num_slots; ++slot) {
      const auto index = static_cast<size_t>(first + slot);
      const float factor = std::exp(max_[index] - max);
      const float* out = out_.data() + index * static_cast<size_t>(stride_);
      total += factor * sum_[index];
      for (size_t i = 0; i < merged.size(); ++i) merged[i] += factor * out[i];
    }
    for (float& value : merged) value /= total;
    write_row(merged.data(), head_dim_, params_.out.dtype, address(params_.out, row, head));
  }

  struct Span {
    int64_t first_key, num_blocks;
    const SequenceRows* sequence;
  };

  const MobaAttentionParams& params_;
  const std::vector<SequenceRows>& sequences_;
  int64_t first_row_, end_row_, num_heads_, group_size_, max_top_k_, head_dim_, stride_;
  std::vector<Span> spans_;  // ascending in first_key
  std::vector<Pair> pairs_;
  std::vector<BlockItem> items_;
  std::vector<float> max_, sum_, out_;  // partials, by pair index
};

}  // namespace

void moba_attention(const MobaAttentionParams& params) {
  const std::vector<SequenceRows> sequences =
      read_batch(params.batch, params.kv, params.query.shape[0]);
  if (sequences.empty()) return;
  const int64_t partial_bytes = (padded_dim(params.kv.head_dim()) + 2) *
                                static_cast<int64_t>(sizeof(float)) * params.query.shape[1] *
                                params.selected.shape[2];
  const int64_t rows_per_pass = std::max<int64_t>(kMaxPartialBytes / partial_bytes, 1);
  const int64_t end_row = sequences.back().end_row;
  for (int64_t row = sequences.front().first_row; row < end_row; row += rows_per_pass) {
    Pass(params, sequences, row, std::min(row + rows_per_pass, end_row)).run();
  }
}

}  // namespace quire::cpu
