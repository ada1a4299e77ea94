#include "tests/kernels/gate_definition.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "tests/support/compare.h"

namespace quire::test {
namespace {

double score_of(const KvShape& shape, const std::vector<float>& digest, const BFloat16* query,
                int64_t kv_head) {
  const bool is_mean = shape.digest == BlockDigest::kMean;
  const auto first = static_cast<size_t>(kv_head * shape.digest_dim());
  double score = 0;
  for (int64_t d = 0; d < shape.head_dim; ++d) {
    const auto q = static_cast<double>(to_float(query[d]));
    const size_t low = first + static_cast<size_t>(d);
    const size_t high = is_mean ? low : low + static_cast<size_t>(shape.head_dim);
    if (std::isnan(digest[low])) return NAN;
    score += std::max(q * static_cast<double>(digest[low]), q * static_cast<double>(digest[high]));
  }
  return score;
}

std::vector<int32_t> select(const std::vector<double>& scores, int32_t top_k, int64_t max_top_k) {
  std::vector<std::pair<double, int32_t>> ranked;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double score = std::isnan(scores[i]) ? -HUGE_VAL : scores[i];
    ranked.emplace_back(score, static_cast<int32_t>(i));
  }
  std::ranges::sort(ranked, std::greater<>());
  ranked.resize(std::min(ranked.size(), static_cast<size_t>(top_k - 1)));
  std::vector<int32_t> selected;
  for (const auto& [score, block] : ranked) selected.push_back(block);
  selected.push_back(static_cast<int32_t>(scores.size()));
  std::ranges::sort(selected);
  selected.resize(static_cast<size_t>(max_top_k), -1);
  return selected;
}

}  // namespace

std::vector<double> gate_scores(const KvShape& shape, const Sequence& sequence, int64_t position,
                                int64_t head) {
  const int64_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const int64_t block_elements = shape.block_size * shape.num_kv_heads * shape.head_dim;
  const BFloat16* query =
      sequence.query.data() + (position * shape.num_heads + head) * shape.head_dim;
  std::vector<double> scores;
  for (int64_t block = 0; block < position / shape.block_size; ++block) {
    const BFloat16* keys = sequence.key.data() + block * block_elements;
    scores.push_back(score_of(shape, widen(digest_of(keys, shape)), query, kv_head));
  }
  return scores;
}

std::vector<int32_t> expected_selection(const KvShape& shape, const std::vector<Piece>& pieces,
                                        int64_t max_top_k) {
  std::vector<int32_t> all;
  for (const Piece& piece : pieces) {
    for (int64_t position = piece.first; position < piece.end; ++position) {
      for (int64_t head = 0; head < shape.num_heads; ++head) {
        const auto row =
            select(gate_scores(shape, *piece.sequence, position, head), piece.top_k, max_top_k);
        all.insert(all.end(), row.begin(), row.end());
      }
    }
  }
  return all;
}

}  // namespace quire::test
