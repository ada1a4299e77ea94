#include "tests/eval/quire_eval/selection_recall.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/check.h"

namespace quire::eval {
namespace {

float dot(std::span<const float> a, std::span<const float> b) {
  float sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// softmax(scale * <query, key>) over positions 0 .. position, in f64 once the scores are known.
std::vector<double> attention_of(std::span<const float> query, int64_t position, float scale,
                                 const DigestedKeys& keys) {
  std::vector<double> weights(static_cast<size_t>(position) + 1);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = double{scale} * dot(query, keys.key(static_cast<int64_t>(i)));
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - largest);
  for (double& weight : weights) weight /= total;
  return weights;
}

std::vector<double> weight_of_blocks(std::span<const double> weights, int32_t block_size) {
  std::vector<double> sums;
  for (size_t begin = 0; begin < weights.size(); begin += static_cast<size_t>(block_size)) {
    const auto block =
        weights.subspan(begin, std::min(weights.size() - begin, static_cast<size_t>(block_size)));
    sums.push_back(std::accumulate(block.begin(), block.end(), 0.0));
  }
  return sums;
}

/// Past blocks, the best first. `score` has one entry for each.
std::vector<size_t> ranked(std::span<const double> score) {
  std::vector<size_t> order(score.size());
  std::iota(order.rbegin(), order.rend(), 0);  // the most recent first, and stay so among equals
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (std::isnan(score[b])) return !std::isnan(score[a]);
    return score[a] > score[b];
  });
  return order;
}

std::vector<double> scores_of(std::span<const float> query, BlockDigest digest, size_t size,
                              size_t num_blocks, const DigestedKeys& keys) {
  std::vector<float> expanded(static_cast<size_t>(digest_dim(digest, keys.head_dim())));
  expand_query(digest, query, expanded);
  std::vector<double> scores(num_blocks);
  for (size_t block = 0; block < num_blocks; ++block) {
    scores[block] = dot(expanded, keys.digest(size, digest, static_cast<int64_t>(block)));
  }
  return scores;
}

/// For every top_k: what its first top_k - 1 blocks of `order` have together with the last block,
/// the query's own.
std::vector<double> weight_read(std::span<const size_t> order, std::span<const double> blocks,
                                std::span<const int32_t> top_k) {
  std::vector<double> read;
  for (const int32_t count : top_k) {
    const auto taken = order.first(std::min(order.size(), static_cast<size_t>(count) - 1));
    read.push_back(std::accumulate(taken.begin(), taken.end(), blocks.back(),
                                   [&](double sum, size_t block) { return sum + blocks[block]; }));
  }
  return read;
}

}  // namespace

DigestedKeys::DigestedKeys(std::span<const float> keys, int64_t head_dim, const SelectionGrid& grid)
    : keys_(keys), head_dim_(head_dim), digests_(grid.block_sizes.size()) {
  for (size_t size = 0; size < grid.block_sizes.size(); ++size) {
    const auto block_floats = static_cast<size_t>(grid.block_sizes[size] * head_dim);
    for (const BlockDigest digest : kBlockDigests) {
      auto& digests = digests_[size][static_cast<size_t>(digest)];
      const auto dim = static_cast<size_t>(digest_dim(digest, head_dim));
      digests.resize(keys.size() / block_floats * dim);
      for (size_t block = 0; block < keys.size() / block_floats; ++block) {
        make_digest(digest, keys.subspan(block * block_floats, block_floats), head_dim,
                    std::span(digests).subspan(block * dim, dim));
      }
    }
  }
}

std::span<const float> DigestedKeys::key(int64_t position) const {
  return keys_.subspan(static_cast<size_t>(position * head_dim_), static_cast<size_t>(head_dim_));
}

std::span<const float> DigestedKeys::digest(size_t size, BlockDigest digest, int64_t block) const {
  const auto dim = static_cast<size_t>(digest_dim(digest, head_dim_));
  return std::span(digests_[size][static_cast<size_t>(digest)])
      .subspan(static_cast<size_t>(block) * dim, dim);
}

RecallSums& RecallSums::operator+=(const RecallSums& other) {
  QUIRE_CHECK(cells.size() == other.cells.size()) << "sums of different grids";
  for (size_t i = 0; i < cells.size(); ++i) {
    cells[i].best += other.cells[i].best;
    for (size_t d = 0; d < kBlockDigests.size(); ++d) {
      cells[i].by_digest[d] += other.cells[i].by_digest[d];
    }
  }
  num_queries += other.num_queries;
  return *this;
}

void add_query(std::span<const float> query, int64_t position, float scale,
               const DigestedKeys& keys, const SelectionGrid& grid, RecallSums& sums) {
  const std::vector<double> weights = attention_of(query, position, scale, keys);
  ++sums.num_queries;
  for (size_t size = 0; size < grid.block_sizes.size(); ++size) {
    const std::vector<double> blocks = weight_of_blocks(weights, grid.block_sizes[size]);
    const auto past = std::span(blocks).first(blocks.size() - 1);
    const std::vector<double> best = weight_read(ranked(past), blocks, grid.top_k);
    for (size_t k = 0; k < best.size(); ++k) sums.cells[grid.cell(size, k)].best += best[k];
    for (const BlockDigest digest : kBlockDigests) {
      const std::vector<double> read = weight_read(
          ranked(scores_of(query, digest, size, past.size(), keys)), blocks, grid.top_k);
      for (size_t k = 0; k < read.size(); ++k) {
        sums.cells[grid.cell(size, k)].by_digest[static_cast<size_t>(digest)] += read[k];
      }
    }
  }
}

}  // namespace quire::eval
