#include "kernels/ops/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference_backend.h"
#include "kernels/reference/tensor_access.h"

namespace quire::reference {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

struct Candidate {
  int32_t token;
  double value;  // logit / temperature, then probability
};

/// A row's logits as f64, NaN as -inf.
std::vector<double> row_logits(const ConstTensorView& logits, int64_t row) {
  std::vector<double> values(static_cast<size_t>(logits.shape[1]));
  for (size_t i = 0; i < values.size(); ++i) {
    const double logit = load(logits, row, i);
    values[i] = std::isnan(logit) ? kMinusInfinity : logit;
  }
  return values;
}

int32_t argmax(const std::vector<double>& values) {
  return static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

/// Steps 1 to 4 of the contract: the kept candidates, most probable first.
std::vector<Candidate> keep(const std::vector<double>& logits, double temperature, int32_t top_k,
                            double top_p, double min_p) {
  std::vector<Candidate> kept;
  for (size_t i = 0; i < logits.size(); ++i) {
    kept.push_back({static_cast<int32_t>(i), logits[i] / temperature});
  }
  std::sort(kept.begin(), kept.end(), ranks_before);
  if (top_k > 0 && static_cast<size_t>(top_k) < kept.size())
    kept.resize(static_cast<size_t>(top_k));
  const double max_value = kept.front().value;
  double total = 0;
  for (Candidate& candidate : kept) {
    candidate.value = std::exp(candidate.value - max_value);
    total += candidate.value;
  }
  for (Candidate& candidate : kept) candidate.value /= total;
  if (top_p < 1.0) {
    double sum = 0;
    size_t count = 0;
    while (count < kept.size() && (count == 0 || sum < top_p)) sum += kept[count++].value;
    kept.resize(count);
  }
  if (min_p > 0.0) {
    const double least = min_p * kept.front().value;
    std::erase_if(kept, [least](const Candidate& candidate) { return candidate.value < least; });
  }
  return kept;
}

int32_t draw(std::vector<Candidate> kept, double uniform) {
  double total = 0;
  std::sort(kept.begin(), kept.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  for (const Candidate& candidate : kept) total += candidate.value;
  double sum = 0;
  for (const Candidate& candidate : kept) {
    sum += candidate.value;
    if (sum > uniform * total) return candidate.token;
  }
  return kept.back().token;
}

double log_sum_exp(const std::vector<double>& values) {
  const double max_value = *std::max_element(values.begin(), values.end());
  if (max_value == kMinusInfinity) return kMinusInfinity;
  double sum = 0;
  for (const double value : values) sum += std::exp(value - max_value);
  return max_value + std::log(sum);
}

}  // namespace

void sample(const SampleParams& params) {
  for (int64_t row = 0; row < params.logits.shape[0]; ++row) {
    const std::vector<double> logits = row_logits(params.logits, row);
    const int32_t best = argmax(logits);
    const double temperature = load(params.temperature, row);
    int32_t token = best;
    if (temperature > 0 && logits[static_cast<size_t>(best)] != kMinusInfinity) {
      token = draw(keep(logits, temperature, get<int32_t>(params.top_k, row),
                        load(params.top_p, row), load(params.min_p, row)),
                   get<double>(params.uniform, row));
    }
    static_cast<int32_t*>(params.tokens.data)[row] = token;
    static_cast<float*>(params.logprobs.data)[row] =
        static_cast<float>(logits[static_cast<size_t>(token)] - log_sum_exp(logits));
  }
}

}  // namespace quire::reference
