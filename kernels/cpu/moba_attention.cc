#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

// Key-block-major: the (row, head, slot) pairs of a pass are grouped by the block they look at,
// each block's keys are packed and its values widened once, and all its rows are attended together.
// Every pair leaves a partial result (max, sum, weighted values); partials lie in the order of the
// grouped pairs, so that a block's rows write side by side. A row's partials are then merged in
// slot order, which is ascending in the block index with the current block last. A pair's
// arithmetic does not depend on the other pairs, so results do not depend on batch, chunking or
// grouping.

namespace quire::cpu {
namespace {

constexpr int64_t kTileRows = 32;
constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

/// One (row, head, slot): its index in the pass, and what it looks at.
struct Pair {
  int64_t item_key;  // (sequence, kv head, logical block), grouped by it
  int32_t index;     // ((row - first_row) * num_heads + head) * max_top_k + slot
  int32_t limit;     // keys of the block that it sees
};

struct BlockItem {
  int64_t begin, end;  // of the grouped pairs
  int64_t block;       // block id
  int64_t kv_head;
};

/// Memory without a value until it is written, kept from one op to the next.
template <class T>
class Scratch {
 public:
  T* reserve(size_t count) {
    if (count > capacity_) {
      data_ = std::make_unique_for_overwrite<T[]>(count);
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<T[]> data_;
  size_t capacity_ = 0;
};

/// What a pass needs; about kMaxPartialBytes at most.
struct PassScratch {
  std::vector<Pair> pairs;
  Scratch<Pair> grouped;
  Scratch<int32_t> places;       // pair index -> place among the grouped pairs
  Scratch<float> max, sum, out;  // partials, by place
};

class Pass {
 public:
  Pass(const MobaAttentionParams& params, const std::vector<SequenceRows>& sequences,
       int64_t first_row, int64_t end_row, PassScratch& scratch)
      : params_(params),
        sequences_(sequences),
        first_row_(first_row),
        end_row_(end_row),
        num_heads_(params.query.shape[1]),
        group_size_(num_heads_ / params.kv.num_kv_heads()),
        max_top_k_(params.selected.shape[2]),
        head_dim_(params.kv.head_dim()),
        stride_(padded_dim(head_dim_)),
        scratch_(scratch) {}

  void run() {
    collect();
    const size_t num_pairs = scratch_.pairs.size();
    state_ = {scratch_.max.reserve(num_pairs), scratch_.sum.reserve(num_pairs),
              scratch_.out.reserve(num_pairs * static_cast<size_t>(stride_))};
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
    scratch_.pairs.clear();
    int64_t num_keys = 0;
    for (const SequenceRows& sequence : sequences_) {
      const int64_t begin = std::max(sequence.first_row, first_row_);
      const int64_t end = std::min(sequence.end_row, end_row_);
      if (begin >= end) continue;
      const int64_t last = sequence.first_position + end - 1 - sequence.first_row;
      const int64_t num_blocks = last / block_size + 1;
      for (int64_t row = begin; row < end; ++row) {
        const int64_t position = sequence.first_position + row - sequence.first_row;
        for (int64_t head = 0; head < num_heads_; ++head) {
          collect_row(row, head, position, num_keys + head / group_size_ * num_blocks);
        }
      }
      spans_.push_back({num_keys, num_blocks, &sequence});
      num_keys += num_kv_heads * num_blocks;
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
      scratch_.pairs.push_back(
          {first_key + block, static_cast<int32_t>(index + slot), static_cast<int32_t>(limit)});
      previous = block;
    }
    QUIRE_CHECK(previous == current)
        << "row " << row << ", head " << head << ": the current block is not selected last";
  }

  /// Groups the pairs by item key, in their order within a group: by counting where keys are not
  /// many more than pairs.
  void group(int64_t num_keys) {
    std::vector<Pair>& pairs = scratch_.pairs;
    const auto num_pairs = static_cast<int64_t>(pairs.size());
    Pair* grouped = scratch_.grouped.reserve(pairs.size());
    if (num_keys <= 4 * num_pairs) {
      std::vector<int64_t> next(static_cast<size_t>(num_keys) + 1, 0);
      for (const Pair& pair : pairs) ++next[static_cast<size_t>(pair.item_key) + 1];
      for (size_t key = 1; key < next.size(); ++key) next[key] += next[key - 1];
      for (const Pair& pair : pairs) grouped[next[static_cast<size_t>(pair.item_key)]++] = pair;
    } else {
      std::copy(pairs.begin(), pairs.end(), grouped);
      std::stable_sort(grouped, grouped + num_pairs,
                       [](const Pair& a, const Pair& b) { return a.item_key < b.item_key; });
    }
    grouped_ = grouped;
    int32_t* places = scratch_.places.reserve(
        static_cast<size_t>((end_row_ - first_row_) * num_heads_ * max_top_k_));
    for (int64_t place = 0; place < num_pairs; ++place) {
      places[grouped[place].index] = static_cast<int32_t>(place);
    }
    places_ = places;
    list_items(num_pairs);
  }

  void list_items(int64_t num_pairs) {
    for (int64_t begin = 0; begin < num_pairs;) {
      const int64_t key = grouped_[begin].item_key;
      int64_t end = begin + 1;
      while (end < num_pairs && grouped_[end].item_key == key) ++end;
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
        num_keys = std::max<int64_t>(num_keys, grouped_[p].limit - first_key);
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
    const int64_t num_rows = end - begin;
    const SoftmaxRows state{state_.max + begin, state_.sum + begin, state_.out + begin * stride_};
    if (first_key == 0) {
      std::fill_n(state.max, num_rows, -std::numeric_limits<float>::infinity());
      std::fill_n(state.sum, num_rows, 0.0f);
      std::fill_n(state.out, num_rows * stride_, 0.0f);
    }
    for (int64_t r = 0; r < num_rows; ++r) {
      const Pair& pair = grouped_[begin + r];
      const int64_t row_and_head = pair.index / max_top_k_;
      scratch.load_query(params_.query, first_row_ + row_and_head / num_heads_,
                         row_and_head % num_heads_, r);
      scratch.limits[static_cast<size_t>(r)] =
          static_cast<int32_t>(std::clamp<int64_t>(pair.limit - first_key, 0, num_keys));
    }
    score_tile(scratch.query.data(), num_rows, head_dim_, scratch.keys.data(),
               scratch.scores.data());
    attend_tile({.num_rows = num_rows,
                 .head_dim = head_dim_,
                 .limits = scratch.limits.data(),
                 .values = scratch.values.data(),
                 .softmax_scale = params_.softmax_scale,
                 .scores = scratch.scores.data(),
                 .state = state});
  }

  void merge(int64_t row, int64_t head) {
    const int64_t first = ((row - first_row_) * num_heads_ + head) * max_top_k_;
    const auto* selected = reinterpret_cast<const int32_t*>(address(params_.selected, row, head));
    int64_t num_slots = 0;
    while (num_slots < max_top_k_ && selected[num_slots] != -1) ++num_slots;
    thread_local std::vector<float> merged;
    merged.resize(static_cast<size_t>(stride_));
    merge_partials({.places = places_ + first,
                    .num_partials = num_slots,
                    .head_dim = head_dim_,
                    .state = state_,
                    .out = merged.data()});
    write_row(merged.data(), head_dim_, params_.out.dtype, address(params_.out, row, head));
  }

  struct Span {
    int64_t first_key, num_blocks;
    const SequenceRows* sequence;
  };

  const MobaAttentionParams& params_;
  const std::vector<SequenceRows>& sequences_;
  int64_t first_row_, end_row_, num_heads_, group_size_, max_top_k_, head_dim_, stride_;
  PassScratch& scratch_;
  std::vector<Span> spans_;  // ascending in first_key
  std::vector<BlockItem> items_;
  const Pair* grouped_ = nullptr;
  const int32_t* places_ = nullptr;
  SoftmaxRows state_{};  // partials, by place
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
  thread_local PassScratch scratch;
  for (int64_t row = sequences.front().first_row; row < end_row; row += rows_per_pass) {
    Pass(params, sequences, row, std::min(row + rows_per_pass, end_row), scratch).run();
  }
}

}  // namespace quire::cpu
