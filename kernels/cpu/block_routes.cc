#include "kernels/cpu/block_routes.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace quire::cpu {
namespace {

constexpr int64_t kMinRowsPerPart = 64;  // times heads and slots: worth a thread

}  // namespace

void BlockRoutes::build(const MobaAttentionParams& params,
                        const std::vector<SequenceRows>& sequences, int64_t first_row,
                        int64_t end_row, int64_t max_rows) {
  params_ = &params;
  first_row_ = first_row;
  end_row_ = end_row;
  max_rows_ = max_rows;
  num_heads_ = params.query.shape[1];
  max_top_k_ = params.selected.shape[2];
  groups_.clear();
  list_spans(sequences);
  const int64_t num_slots = (end_row - first_row) * num_heads_ * max_top_k_;
  routes_ = routes_scratch_.reserve(static_cast<size_t>(num_slots));
  places_ = places_scratch_.reserve(static_cast<size_t>(num_slots));
  // Counting touches every key, sorting only those that occur: decode has few of a million tokens.
  if (num_keys_ > 4 * num_slots) return group_by_sorting();
  group_by_counting(
      std::clamp<int64_t>((end_row - first_row) / kMinRowsPerPart, 1, num_loop_threads()));
}

void BlockRoutes::list_spans(const std::vector<SequenceRows>& sequences) {
  const int64_t num_kv_heads = params_->kv.num_kv_heads();
  spans_.clear();
  num_keys_ = 0;
  for (const SequenceRows& sequence : sequences) {
    const int64_t begin = std::max(sequence.first_row, first_row_);
    const int64_t end = std::min(sequence.end_row, end_row_);
    if (begin >= end) continue;
    const int64_t last = sequence.first_position + end - 1 - sequence.first_row;
    const int64_t num_blocks = last / params_->kv.block_size() + 1;
    spans_.push_back({begin, end, num_keys_, num_blocks, &sequence});
    num_keys_ += num_kv_heads * num_blocks;
  }
}

/// Calls visit(key, route) for every selected slot of rows [begin, end), in order.
template <class Visit>
void BlockRoutes::visit_rows(int64_t begin, int64_t end, const Visit& visit) const {
  const int64_t block_size = params_->kv.block_size();
  const int64_t group_size = num_heads_ / params_->kv.num_kv_heads();
  for (const Span& span : spans_) {
    const int64_t span_end = std::min(end, span.end_row);
    for (int64_t row = std::max(begin, span.begin_row); row < span_end; ++row) {
      const int64_t position = span.sequence->first_position + row - span.sequence->first_row;
      const int64_t current = position / block_size;
      for (int64_t head = 0; head < num_heads_; ++head) {
        const auto* selected =
            reinterpret_cast<const int32_t*>(address(params_->selected, row, head));
        const int64_t first_key = span.first_key + head / group_size * span.num_blocks;
        const int64_t index = ((row - first_row_) * num_heads_ + head) * max_top_k_;
        int64_t previous = -1;
        for (int64_t slot = 0; slot < max_top_k_ && selected[slot] != -1; ++slot) {
          const int64_t block = selected[slot];
          QUIRE_CHECK(block > previous && block <= current)
              << "row " << row << ", head " << head << ": selected block " << block << " after "
              << previous << ", current " << current;
          const int64_t limit = block < current ? block_size : position + 1 - block * block_size;
          visit(first_key + block,
                Route{static_cast<int32_t>(index + slot), static_cast<int32_t>(limit)});
          previous = block;
        }
        QUIRE_CHECK(previous == current)
            << "row " << row << ", head " << head << ": the current block is not selected last";
      }
    }
  }
}

void BlockRoutes::add_group(int64_t key, int64_t begin, int64_t end) {
  const auto span = std::upper_bound(spans_.begin(), spans_.end(), key,
                                     [](int64_t k, const Span& s) { return k < s.first_key; }) -
                    1;
  const int64_t within = key - span->first_key;
  for (int64_t first = begin; first < end; first += max_rows_) {
    groups_.push_back({first, std::min(first + max_rows_, end),
                       span->sequence->block_table[within % span->num_blocks],
                       within / span->num_blocks});
  }
}

void BlockRoutes::group_by_sorting() {
  sorted_.clear();
  visit_rows(first_row_, end_row_, [&](int64_t key, const Route& route) {
    sorted_.push_back({key, route});
  });
  std::stable_sort(sorted_.begin(), sorted_.end(),
                   [](const KeyedRoute& a, const KeyedRoute& b) { return a.key < b.key; });
  num_routes_ = static_cast<int64_t>(sorted_.size());
  int64_t begin = 0;
  for (int64_t place = 0; place < num_routes_; ++place) {
    const KeyedRoute& keyed = sorted_[static_cast<size_t>(place)];
    routes_[place] = keyed.route;
    places_[keyed.route.index] = static_cast<int32_t>(place);
    const bool is_last =
        place + 1 == num_routes_ || sorted_[static_cast<size_t>(place + 1)].key != keyed.key;
    if (!is_last) continue;
    add_group(keyed.key, begin, place + 1);
    begin = place + 1;
  }
}

void BlockRoutes::group_by_counting(int64_t num_parts) {
  const int64_t num_rows = end_row_ - first_row_;
  // counts[part, key]: first how many, then the next place.
  int32_t* counts = counts_scratch_.reserve(static_cast<size_t>(num_parts * num_keys_));
  const auto part_row = [&](int64_t part) { return first_row_ + part * num_rows / num_parts; };
  parallel_for(num_parts, 1, [&](int64_t part) {
    int32_t* own = counts + part * num_keys_;
    std::fill_n(own, num_keys_, 0);
    visit_rows(part_row(part), part_row(part + 1), [&](int64_t key, const Route&) { ++own[key]; });
  });
  int32_t place = 0;
  for (int64_t key = 0; key < num_keys_; ++key) {
    const int32_t begin = place;
    for (int64_t part = 0; part < num_parts; ++part) {
      const int32_t count = counts[part * num_keys_ + key];
      counts[part * num_keys_ + key] = place;
      place += count;
    }
    if (place > begin) add_group(key, begin, place);
  }
  num_routes_ = place;
  parallel_for(num_parts, 1, [&](int64_t part) {
    int32_t* next = counts + part * num_keys_;
    visit_rows(part_row(part), part_row(part + 1), [&](int64_t key, const Route& route) {
      routes_[next[key]] = route;
      places_[route.index] = next[key]++;
    });
  });
}

}  // namespace quire::cpu
