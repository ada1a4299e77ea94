#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/block_digest.h"

namespace quire::eval {

/// The block sizes and numbers of blocks (a query's own one included) to try.
struct SelectionGrid {
  std::vector<int32_t> block_sizes;
  std::vector<int32_t> top_k;

  size_t num_cells() const { return block_sizes.size() * top_k.size(); }
  /// Cells of one block size lie together.
  size_t cell(size_t block_size, size_t k) const { return block_size * top_k.size() + k; }
};

/// Keys of one KV head from position 0 on, and the digests of their complete blocks.
class DigestedKeys {
 public:
  /// `keys` [num_keys, head_dim] must outlive this.
  DigestedKeys(std::span<const float> keys, int64_t head_dim, const SelectionGrid& grid);

  int64_t head_dim() const { return head_dim_; }
  std::span<const float> key(int64_t position) const;
  /// Of block `block` of the grid's block size `size`.
  std::span<const float> digest(size_t size, BlockDigest digest, int64_t block) const;

 private:
  using DigestsOfSize = std::array<std::vector<float>, kBlockDigests.size()>;

  std::span<const float> keys_;
  int64_t head_dim_;
  std::vector<DigestsOfSize> digests_;  // of every block size
};

/// How much of full attention's weight lies in the blocks that a selection would read: sums over
/// queries, for every cell of a grid.
struct RecallSums {
  struct Cell {
    double best = 0;  // of the blocks with the most weight: no selection reads more
    std::array<double, kBlockDigests.size()> by_digest{};
  };
  std::vector<Cell> cells;
  int64_t num_queries = 0;

  explicit RecallSums(const SelectionGrid& grid) : cells(grid.num_cells()) {}
  RecallSums& operator+=(const RecallSums& other);
};

/// Adds one query [head_dim], post-RoPE, of the token at `position`, whose attention is
/// softmax(scale * <query, key>) over positions 0 .. position. As in MoBA's gate
/// (kernels/ops/moba_gate.h) its own block is always selected, ties go to the more recent block,
/// and a score that is no number loses.
void add_query(std::span<const float> query, int64_t position, float scale,
               const DigestedKeys& keys, const SelectionGrid& grid, RecallSums& sums);

}  // namespace quire::eval
