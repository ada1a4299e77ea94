#include "kernels/ops/sample.h"

#include <bit>

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

// One block per row. Nothing is sorted: what the contract's steps keep is always a beginning of the
// order "larger logit first, of equal ones the lower id", so it is known by its last logit and by
// how many of that logit's ids belong to it. Both are found digit by digit, from histograms of
// eight bits of the logit's sortable image (radix select), once by count for top_k and once by
// probability for top_p.
//
// Probabilities are summed as whole numbers, multiples of 2^-shift of the largest one: such a sum
// has no order, so atomic counters give the same number every time. The shift leaves room for the
// vocabulary; 44 bits remain at 2^18 tokens, where f64 sums in different orders agree to about 36.

namespace quire::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kDigits = 256;
using Mass = unsigned long long;

struct SampleCall {
  Rows<const float> logits;
  const float* temperature;
  const int32_t* top_k;
  const float* top_p;
  const float* min_p;
  const double* uniform;
  int32_t* tokens;
  float* logprobs;
  int64_t vocab_size;
  int shift;
};

/// The tokens that come first in the order by logit: those above `image`, and the `num_ties` lowest
/// ids of those that have it.
struct Beginning {
  unsigned image;
  int64_t num_ties;
};

/// Of a logit's image.
__device__ __forceinline__ float logit_of(unsigned image) {
  return __uint_as_float((image & 0x80000000u) != 0 ? image & 0x7FFFFFFFu : ~image);
}

/// exp of the distance to the largest logit over the temperature, as a whole number. Step 2 of the
/// contract without its division: every comparison below is with the sum of what is kept.
struct Weights {
  double temperature;
  double largest;  // z of the largest logit
  double unit;     // 2^shift

  __device__ __forceinline__ double exact(unsigned image) const {
    const double distance = static_cast<double>(logit_of(image)) / temperature - largest;
    return distance != distance ? 1.0 : exp(distance);  // +inf is at no distance from +inf
  }
  __device__ __forceinline__ Mass mass(unsigned image) const {
    return static_cast<Mass>(exact(image) * unit);
  }
};

/// How much of `need` the tokens above and including a digit must hold.
struct ByCount {
  __device__ __forceinline__ Mass of(unsigned) const { return 1; }
};
struct ByMass {
  Weights weights;
  __device__ __forceinline__ Mass of(unsigned image) const { return weights.mass(image); }
};

/// The shortest beginning, within `bounds`, whose measure reaches `need`. REQUIRES: all of it does.
template <class Measure>
__device__ Beginning shortest(const float* logits, int64_t vocab_size, const Beginning& bounds,
                              const Measure& measure, Mass need) {
  __shared__ Mass digits[kDigits];
  __shared__ unsigned chosen;
  __shared__ Mass above;
  unsigned prefix = 0, mask = 0;
  Mass done = 0;  // measure of what lies above the prefix
  for (int bit = 24; bit >= 0; bit -= 8) {
    for (int d = threadIdx.x; d < kDigits; d += kThreads) digits[d] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < vocab_size; i += kThreads) {
      const unsigned image = image_of(logits[i]);
      if (image <= bounds.image || (image & mask) != prefix) continue;
      const Mass of_token = measure.of(image);
      if (of_token > 0) atomicAdd(&digits[image >> bit & (kDigits - 1)], of_token);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      // The bound's own ties are counted by number, not one by one: some may be outside.
      if (bounds.num_ties > 0 && (bounds.image & mask) == prefix) {
        digits[bounds.image >> bit & (kDigits - 1)] +=
            measure.of(bounds.image) * static_cast<Mass>(bounds.num_ties);
      }
      Mass sum = done;
      int d = kDigits - 1;
      while (d > 0 && sum + digits[d] < need) sum += digits[d--];
      chosen = static_cast<unsigned>(d);
      above = sum;
    }
    __syncthreads();
    prefix |= chosen << bit;
    mask |= 0xFFu << bit;
    done = above;
    __syncthreads();
  }
  const Mass each = measure.of(prefix);
  if (each == 0) return bounds;  // the rest weighs nothing: it may as well stay
  const Mass missing = need > done ? need - done : 1;
  return {prefix, static_cast<int64_t>((missing + each - 1) / each)};
}

__device__ __forceinline__ bool comes_first(const Beginning& beginning, unsigned image,
                                            int64_t tie_rank) {
  return image > beginning.image || (image == beginning.image && tie_rank < beginning.num_ties);
}

/// Step 5: every thread owns consecutive ids; the thread in whose ids the running sum exceeds its
/// target walks through them.
__device__ int32_t draw(const float* logits, int64_t vocab_size, const Beginning& kept,
                        const Weights& weights, double least_weight, double uniform) {
  __shared__ int32_t token;
  if (threadIdx.x == 0) token = -1;
  const int64_t per_thread = (vocab_size + kThreads - 1) / kThreads;
  const int64_t begin = min(static_cast<int64_t>(threadIdx.x) * per_thread, vocab_size);
  const int64_t end = min(begin + per_thread, vocab_size);
  int64_t num_ties = 0;
  for (int64_t i = begin; i < end; ++i) num_ties += image_of(logits[i]) == kept.image;
  int64_t all_ties;
  const int64_t first_tie = block_exclusive_sum<kThreads>(num_ties, all_ties);

  const auto mass_of = [&](int64_t i, int64_t& tie) -> Mass {
    const unsigned image = image_of(logits[i]);
    const int64_t tie_rank = image == kept.image ? tie++ : 0;
    if (!comes_first(kept, image, tie_rank)) return 0;
    return weights.exact(image) < least_weight ? 0 : weights.mass(image);
  };
  Mass own = 0;
  int64_t tie = first_tie;
  for (int64_t i = begin; i < end; ++i) own += mass_of(i, tie);
  Mass total;
  const Mass before = block_exclusive_sum<kThreads>(own, total);
  const double target = uniform * static_cast<double>(total);
  const auto exceeds = [target](Mass sum) { return static_cast<double>(sum) > target; };
  // Where rounding puts the target at the total itself, the last token that weighs anything.
  const bool is_last = own > 0 && before + own == total;
  if (own > 0 && !exceeds(before) && (exceeds(before + own) || is_last)) {
    Mass sum = before;
    tie = first_tie;
    for (int64_t i = begin; i < end; ++i) {
      const Mass mass = mass_of(i, tie);
      sum += mass;
      if (mass > 0) token = static_cast<int32_t>(i);
      if (exceeds(sum)) break;
    }
  }
  __syncthreads();
  return token;
}

/// Steps 1 to 5 for a row with some finite logit and a temperature above zero.
__device__ int32_t choose(const SampleCall& call, int64_t row, const float* logits,
                          unsigned largest) {
  Weights weights{.temperature = static_cast<double>(call.temperature[row]),
                  .largest = 0,
                  .unit = static_cast<double>(Mass{1} << call.shift)};
  weights.largest = static_cast<double>(logit_of(largest)) / weights.temperature;
  const int64_t vocab_size = call.vocab_size;
  Beginning kept{0, 0};  // everything: no logit's image is 0
  const int32_t top_k = call.top_k[row];
  if (top_k > 0 && top_k < vocab_size) {
    kept = shortest(logits, vocab_size, kept, ByCount(), static_cast<Mass>(top_k));
  }
  const double top_p = static_cast<double>(call.top_p[row]);
  if (top_p < 1.0) {
    Mass own = 0;
    for (int64_t i = threadIdx.x; i < vocab_size; i += kThreads) {
      const unsigned image = image_of(logits[i]);
      if (image > kept.image) own += weights.mass(image);
    }
    Mass total = block_reduce<kThreads>(own, Sum());
    if (kept.num_ties > 0) total += weights.mass(kept.image) * static_cast<Mass>(kept.num_ties);
    const auto need = static_cast<Mass>(ceil(top_p * static_cast<double>(total)));
    kept = shortest(logits, vocab_size, kept, ByMass{weights}, need > 0 ? need : Mass{1});
  }
  // The largest weight is exactly 1.
  return draw(logits, vocab_size, kept, weights, static_cast<double>(call.min_p[row]),
              call.uniform[row]);
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleCall call) {
  const int64_t row = blockIdx.x;
  const float* logits = call.logits.data + row * call.logits.stride0;
  // The largest logit, and of those the lowest id, as one number.
  uint64_t best = 0;
  for (int64_t i = threadIdx.x; i < call.vocab_size; i += kThreads) {
    const uint64_t claim =
        static_cast<uint64_t>(image_of(logits[i])) << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(i));
    if (claim > best) best = claim;
  }
  best = block_reduce<kThreads>(best, Largest());
  const auto largest = static_cast<unsigned>(best >> 32);
  const auto argmax = static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(best));
  const double largest_logit = static_cast<double>(logit_of(largest));
  const bool is_empty = logit_of(largest) == -INFINITY;

  double sum = 0;  // in f64 and a fixed order: thread by thread, then one tree
  for (int64_t i = threadIdx.x; i < call.vocab_size; i += kThreads) {
    if (!is_empty) sum += exp(static_cast<double>(logit_of(image_of(logits[i]))) - largest_logit);
  }
  sum = block_reduce<kThreads>(sum, Sum());
  int32_t token = argmax;
  if (call.temperature[row] > 0 && !is_empty) token = choose(call, row, logits, largest);
  if (threadIdx.x == 0) {
    call.tokens[row] = token;
    const double logit = static_cast<double>(logit_of(image_of(logits[token])));
    call.logprobs[row] =
        static_cast<float>(is_empty ? logit - logit : logit - (largest_logit + log(sum)));
  }
}

}  // namespace

void sample(const SampleParams& params, const OpStream& stream) {
  const int64_t vocab_size = params.logits.shape[1];
  const SampleCall call{
      .logits = rows_of<const float>(params.logits),
      .temperature = static_cast<const float*>(params.temperature.data),
      .top_k = static_cast<const int32_t*>(params.top_k.data),
      .top_p = static_cast<const float*>(params.top_p.data),
      .min_p = static_cast<const float*>(params.min_p.data),
      .uniform = static_cast<const double*>(params.uniform.data),
      .tokens = static_cast<int32_t*>(params.tokens.data),
      .logprobs = static_cast<float*>(params.logprobs.data),
      .vocab_size = vocab_size,
      .shift = 62 - static_cast<int>(std::bit_width(static_cast<uint64_t>(vocab_size)))};
  launch(stream, sample_kernel, dim3{static_cast<unsigned>(params.logits.shape[0]), 1, 1},
         dim3{kThreads, 1, 1}, 0, call);
}

}  // namespace quire::cuda
