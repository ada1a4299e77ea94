#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/batch_rows.h"
#include "kernels/cpu/scratch.h"
#include "kernels/ops/moba_attention.h"

namespace quire::cpu {

/// One (row, head, slot) of a selection: its index, and what it looks at.
struct Route {
  int32_t index;  // ((row - first_row) * num_heads + head) * max_top_k + slot
  int32_t limit;  // keys of the block that it sees
};

/// Routes that look at the same block and KV head: [begin, end) of the grouped routes.
struct BlockRows {
  int64_t begin, end;
  int64_t block;  // block id
  int64_t kv_head;
};

/// The selections of some rows, grouped by block: counted, scanned and scattered, each by all
/// threads. Within a block routes keep the order of rows, heads and slots, however many threads
/// there are. Memory stays from one pass to the next.
class BlockRoutes {
 public:
  /// Checks and groups the selections of rows [first_row, end_row); no group has more than
  /// `max_rows` rows. Throws ContractError.
  void build(const MobaAttentionParams& params, const std::vector<SequenceRows>& sequences,
             int64_t first_row, int64_t end_row, int64_t max_rows);

  int64_t num_routes() const { return num_routes_; }
  const Route* routes() const { return routes_; }
  const std::vector<BlockRows>& groups() const { return groups_; }
  /// Route index -> place among the grouped routes; only for slots that are selected.
  const int32_t* places() const { return places_; }

 private:
  /// Blocks of one sequence, keyed: (KV head, logical block) counted from first_key.
  struct Span {
    int64_t begin_row, end_row;
    int64_t first_key, num_blocks;
    const SequenceRows* sequence;
  };
  struct KeyedRoute {
    int64_t key;
    Route route;
  };

  void list_spans(const std::vector<SequenceRows>& sequences);
  template <class Visit>
  void visit_rows(int64_t begin, int64_t end, const Visit& visit) const;
  void group_by_sorting();
  void group_by_counting(int64_t num_parts);
  void add_group(int64_t key, int64_t begin, int64_t end);

  const MobaAttentionParams* params_ = nullptr;
  int64_t first_row_ = 0, end_row_ = 0, max_rows_ = 0;
  int64_t num_heads_ = 0, max_top_k_ = 0;
  int64_t num_keys_ = 0, num_routes_ = 0;
  std::vector<Span> spans_;  // ascending in rows and in first_key
  std::vector<BlockRows> groups_;
  std::vector<KeyedRoute> sorted_;
  Scratch<int32_t> counts_scratch_, places_scratch_;
  Scratch<Route> routes_scratch_;
  Route* routes_ = nullptr;
  int32_t* places_ = nullptr;
};

}  // namespace quire::cpu
