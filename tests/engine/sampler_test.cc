#include "engine/sampling/sampler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <vector>

#include "engine/sampling/random_stream.h"
#include "engine/scheduler/sequence.h"
#include "kernels/backend_registry.h"

namespace quire {
namespace {

using Row = std::vector<float>;

std::vector<std::unique_ptr<Backend>> available_backends() {
  std::vector<std::unique_ptr<Backend>> backends;
  for (const BackendInfo& info : list_backends()) {
    if (info.available) backends.push_back(make_backend(info.spec, {.num_threads = 2}));
  }
  REQUIRE(!backends.empty());
  return backends;
}

std::unique_ptr<Sequence> make_sequence(uint64_t id, std::vector<TokenId> prompt,
                                        const SamplingParams& sampling) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = SequenceId{id};
  sequence->tokens = std::move(prompt);
  sequence->num_prompt_tokens = sequence->num_tokens();
  sequence->request.sampling = sampling;
  return sequence;
}

/// A sampler and rows of logits for it.
class Bench {
 public:
  Bench(Backend& backend, int32_t vocab_size)
      : backend_(backend),
        vocab_size_(vocab_size),
        sampler_(backend, /*max_rows=*/16, vocab_size) {}

  std::vector<SampledToken> sample(const std::vector<const Sequence*>& sequences,
                                   const std::vector<Row>& rows) {
    std::vector<float> flat;
    for (const Row& row : rows) flat.insert(flat.end(), row.begin(), row.end());
    const auto logits = backend_.allocate(flat.size() * sizeof(float));
    backend_.upload(std::as_bytes(std::span(flat)), logits->data());
    const auto sampled = sampler_.sample(
        sequences, make_view(static_cast<float*>(logits->data()),
                             {static_cast<int64_t>(rows.size()), int64_t{vocab_size_}}));
    return {sampled.begin(), sampled.end()};
  }
  SampledToken sample_one(const Sequence& sequence, const Row& row) {
    return sample({&sequence}, {row}).front();
  }
  Sampler& sampler() { return sampler_; }

 private:
  Backend& backend_;
  int32_t vocab_size_;
  Sampler sampler_;
};

/// Logits that differ from token to token and step to step, as a model's do.
Row pseudo_logits(int32_t vocab_size, uint64_t salt) {
  Row row(static_cast<size_t>(vocab_size));
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(4.0 * uniform_at(salt, i));
  return row;
}

SamplingParams seeded(uint64_t seed) {
  SamplingParams sampling;
  sampling.seed = seed;
  return sampling;
}

SamplingParams greedy() {
  SamplingParams sampling;
  sampling.temperature = 0;
  return sampling;
}

}  // namespace

TEST_CASE("Philox gives its published answers", "[random_stream]") {
  using Words = std::array<uint32_t, 4>;
  constexpr uint32_t kOnes = 0xffffffffu;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) ==
        Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}) ==
        Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
}

TEST_CASE("The random stream fills 0 to 1 evenly, along indices and along seeds",
          "[random_stream]") {
  // Deterministic: the same 16,000 numbers on every machine. Chi-square with 15 degrees of freedom
  // exceeds 37.7 for one good generator in a thousand.
  const auto chi_square = [](auto draw) {
    std::vector<int> counts(16, 0);
    for (uint64_t i = 0; i < 16000; ++i) {
      const double uniform = draw(i);
      REQUIRE(uniform >= 0.0);
      REQUIRE(uniform < 1.0);
      ++counts[static_cast<size_t>(uniform * 16)];
    }
    double sum = 0;
    for (const int count : counts) sum += (count - 1000.0) * (count - 1000.0) / 1000.0;
    return sum;
  };
  CHECK(chi_square([](uint64_t i) { return uniform_at(42, i); }) < 37.7);
  CHECK(chi_square([](uint64_t i) { return uniform_at(i, 0); }) < 37.7);
}

TEST_CASE("Every draw is the token that its random number stands for", "[sampler]") {
  // Which token a number must give follows from the softmax alone, so nothing depends on luck.
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    Bench bench(*backend, 4);
    const Row logits{std::log(1.0f), std::log(4.0f), std::log(2.0f), std::log(1.0f)};
    const std::vector<double> cumulative{0.125, 0.625, 0.875, 1.0};
    auto sequence = make_sequence(1, {0}, seeded(7));
    for (uint64_t i = 0; i < 500; ++i) {
      const double uniform = uniform_at(7, i);
      const auto expected = static_cast<TokenId>(
          std::upper_bound(cumulative.begin(), cumulative.end(), uniform) - cumulative.begin());
      REQUIRE(bench.sample_one(*sequence, logits).token == expected);
      sequence->tokens.push_back(expected);
    }
  }
}

TEST_CASE("A sequence draws the same tokens alone, in a batch and after a restart", "[sampler]") {
  constexpr int32_t kVocab = 50;
  constexpr int kSteps = 20;
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    SamplingParams sampling = seeded(1234);
    sampling.top_p = 0.9f;
    sampling.repetition_penalty = 1.3f;
    sampling.frequency_penalty = 0.4f;

    auto alone = make_sequence(1, {3, 4}, sampling);
    Bench bench(*backend, kVocab);
    for (int step = 0; step < kSteps; ++step) {
      const Row row = pseudo_logits(kVocab, static_cast<uint64_t>(step));
      alone->tokens.push_back(bench.sample_one(*alone, row).token);
    }

    std::vector<std::unique_ptr<Sequence>> others;
    std::vector<const Sequence*> batch;
    for (uint64_t i = 0; i < 8; ++i) {
      others.push_back(make_sequence(10 + i, {3, 4}, i == 5 ? sampling : seeded(i)));
      batch.push_back(others.back().get());
    }
    for (int step = 0; step < kSteps; ++step) {
      if (step == kSteps / 2) bench.sampler().forget(SequenceId{15});  // what it kept is lost
      const Row row = pseudo_logits(kVocab, static_cast<uint64_t>(step));
      const auto sampled = bench.sample(batch, std::vector<Row>(8, row));
      for (size_t i = 0; i < 8; ++i) {
        REQUIRE(sampled[i].sequence == others[i]->id);
        others[i]->tokens.push_back(sampled[i].token);
      }
    }
    CHECK(others[5]->tokens == alone->tokens);
    CHECK(others[4]->tokens != alone->tokens);
  }
}

TEST_CASE("Greedy takes the largest logit and the lower id of two", "[sampler]") {
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    Bench bench(*backend, 4);
    const auto sequence = make_sequence(1, {0}, greedy());
    CHECK(bench.sample_one(*sequence, {1.0f, 3.0f, 2.0f, 3.0f}).token == 1);
    CHECK(bench.sample_one(*sequence, {NAN, -2.0f, -1.0f, NAN}).token == 2);
  }
}

TEST_CASE("Penalties and bias steer, and logprobs still tell the model's own view", "[sampler]") {
  const Row logits{std::log(1.0f), std::log(4.0f), std::log(2.0f), std::log(1.0f)};
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    Bench bench(*backend, 4);
    SamplingParams sampling = greedy();
    sampling.num_top_logprobs = 2;
    sampling.logit_bias = {{3, 50.0f}};
    const auto biased = bench.sample_one(*make_sequence(1, {0}, sampling), logits);
    CHECK(biased.token == 3);
    CHECK(biased.logprob == Approx(std::log(0.125)));
    REQUIRE(biased.top_logprobs.size() == 2);
    CHECK(biased.top_logprobs[0].token == 1);
    CHECK(biased.top_logprobs[0].logprob == Approx(std::log(0.5)));
    CHECK(biased.top_logprobs[1].token == 2);

    SamplingParams penalised = greedy();
    penalised.presence_penalty = 2.0f;
    auto sequence = make_sequence(2, {1}, penalised);
    CHECK(bench.sample_one(*sequence, logits).token == 1);  // in the prompt: not penalised
    sequence->tokens.push_back(1);
    CHECK(bench.sample_one(*sequence, logits).token == 2);
  }
}

TEST_CASE("Logprobs come where asked for and only there", "[sampler]") {
  const Row logits{0.0f, 1.0f, 2.0f};
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    Bench bench(*backend, 3);
    const auto with_num_top = [&](int32_t num_top_logprobs) {
      SamplingParams sampling = greedy();
      sampling.num_top_logprobs = num_top_logprobs;
      return bench.sample_one(*make_sequence(1, {0}, sampling), logits);
    };
    CHECK(with_num_top(-1).logprob == 0.0f);
    CHECK(with_num_top(0).logprob == Approx(-0.40760596));
    CHECK(with_num_top(0).top_logprobs.empty());
    CHECK(with_num_top(20).top_logprobs.size() == 3);
    CHECK(with_num_top(20).logprob == Approx(-0.40760596));
  }
}

TEST_CASE("A generation cannot stop before min_new_tokens", "[sampler]") {
  const Row logits{9.0f, 1.0f, 2.0f};
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    Bench bench(*backend, 3);
    auto sequence = make_sequence(1, {1}, greedy());
    sequence->request.stop_token_ids = {0};
    sequence->request.min_new_tokens = 2;
    CHECK(bench.sample_one(*sequence, logits).token == 2);
    sequence->tokens.push_back(2);
    CHECK(bench.sample_one(*sequence, logits).token == 2);
    sequence->tokens.push_back(2);
    CHECK(bench.sample_one(*sequence, logits).token == 0);
  }
}

TEST_CASE("One row's processing leaves its neighbours alone", "[sampler]") {
  const Row logits{1.0f, 2.0f, 3.0f};
  for (const auto& backend : available_backends()) {
    CAPTURE(backend->name());
    Bench bench(*backend, 3);
    SamplingParams biased = greedy();
    biased.logit_bias = {{0, 10.0f}};
    const auto first = make_sequence(1, {0}, greedy());
    const auto second = make_sequence(2, {0}, biased);
    const auto third = make_sequence(3, {0}, greedy());
    const auto sampled =
        bench.sample({first.get(), second.get(), third.get()}, {logits, logits, logits});
    CHECK(sampled[0].token == 2);
    CHECK(sampled[1].token == 0);
    CHECK(sampled[2].token == 2);
  }
}

}  // namespace quire
