#include "kernels/ops/sample.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/device_tensor.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

struct Row {
  std::vector<float> logits;
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  double uniform = 0;
};

struct Samples {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
};

Samples run(Backend& backend, const std::vector<Row>& rows) {
  std::vector<float> logits, temperature, top_p, min_p;
  std::vector<int32_t> top_k;
  std::vector<double> uniform;
  for (const Row& row : rows) {
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
    temperature.push_back(row.temperature);
    top_k.push_back(row.top_k);
    top_p.push_back(row.top_p);
    min_p.push_back(row.min_p);
    uniform.push_back(row.uniform);
  }
  const auto n = static_cast<int64_t>(rows.size());
  const auto vocab_size = static_cast<int64_t>(rows.front().logits.size());
  const DeviceTensor<int32_t> tokens(backend, {n});
  const DeviceTensor<float> logprobs(backend, {n});
  backend.sample({.logits = DeviceTensor<float>(backend, logits, {n, vocab_size}, 3),
                  .temperature = DeviceTensor<float>(backend, temperature, {n}),
                  .top_k = DeviceTensor<int32_t>(backend, top_k, {n}),
                  .top_p = DeviceTensor<float>(backend, top_p, {n}),
                  .min_p = DeviceTensor<float>(backend, min_p, {n}),
                  .uniform = DeviceTensor<double>(backend, uniform, {n}),
                  .tokens = tokens,
                  .logprobs = logprobs});
  return {tokens.download(), logprobs.download()};
}

/// The logits of these probabilities.
std::vector<float> log_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST_CASE("sample: the contract, case by case") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const std::vector<float> logits = log_of({0.1, 0.4, 0.2, 0.3});
  const float nan = poison<float>(), inf = HUGE_VALF;
  const std::vector<std::pair<Row, int32_t>> cases{
      {{.logits = logits, .temperature = 0, .uniform = 0.99}, 1},
      {{.logits = {2, 5, 5, 1}, .temperature = 0}, 1},            // ties: the lower id
      {{.logits = {nan, -3, nan, -2}, .temperature = 0}, 3},      // NaN counts as -inf
      {{.logits = {-inf, nan, -inf, nan}, .temperature = 0}, 0},  // nothing left: the lowest id
      {{.logits = {-inf, nan, -inf, nan}, .uniform = 0.7}, 0},
      {{.logits = {nan, -inf, 0, nan}, .uniform = 0.999}, 2},
      {{.logits = logits, .uniform = 0.0}, 0},  // ascending ids: .1 .5 .7 1
      {{.logits = logits, .uniform = 0.11}, 1},
      {{.logits = logits, .uniform = 0.51}, 2},
      {{.logits = logits, .uniform = 0.9999}, 3},
      {{.logits = {1, 1, 1, 1}, .uniform = 0.5}, 2},  // reached is not exceeded
      {{.logits = {-inf, 1, nan, 1}, .uniform = 0.0}, 1},
      {{.logits = logits, .top_k = 2, .uniform = 0.0}, 1},  // keeps 1 and 3: .4 .3
      {{.logits = logits, .top_k = 2, .uniform = 0.58}, 3},
      {{.logits = {1, 1, 1, 1}, .top_k = 2, .uniform = 0.99}, 1},  // ties at the edge: lower ids
      {{.logits = logits, .top_k = 9, .uniform = 0.0}, 0},
      {{.logits = logits, .top_p = 0.3f, .uniform = 0.99}, 1},   // the best alone reaches .3
      {{.logits = logits, .top_p = 0.65f, .uniform = 0.99}, 3},  // 1 and 3
      {{.logits = logits, .top_p = 0.65f, .uniform = 0.0}, 1},
      {{.logits = logits, .min_p = 0.6f, .uniform = 0.0}, 1},  // at least .24: 1 and 3
      {{.logits = logits, .min_p = 1.0f, .uniform = 0.99}, 1},
      {{.logits = logits, .temperature = 0.01f, .uniform = 0.5}, 1},
  };
  std::vector<Row> rows;
  std::vector<int32_t> expected;
  for (const auto& [row, token] : cases) {
    rows.push_back(row);
    expected.push_back(token);
  }
  CHECK(difference(run(*backend, rows).tokens, expected) == "");
}

TEST_CASE("sample: logprobs are of the plain distribution, whatever the filters") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const std::vector<float> logits = log_of({0.1, 0.4, 0.2, 0.3});
  const Samples samples =
      run(*backend, {{.logits = logits, .temperature = 0},
                     {.logits = logits, .temperature = 5, .top_k = 1, .uniform = 0.5},
                     {.logits = logits, .top_p = 0.65f, .uniform = 0.99}});
  const std::vector<float> expected = log_of({0.4, 0.4, 0.3});
  // The logits themselves are rounded logarithms.
  CHECK(difference(samples.logprobs, expected, {.absolute = 8 * kF32Roundoff}) == "");
}

TEST_CASE("sample: agrees with the reference, and rows do not depend on each other") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name), reference = make_test_backend("reference");
  RandomTensors random(11);
  std::vector<Row> rows;
  for (int i = 0; i < 40; ++i) {
    rows.push_back({.logits = random.normal(501, 3),
                    .temperature = i % 4 == 0 ? 0.0f : 0.5f + static_cast<float>(i % 3),
                    .top_k = i % 5 == 0 ? 0 : 7 * i,
                    .top_p = i % 2 == 0 ? 1.0f : 0.8f,
                    .min_p = i % 3 == 0 ? 0.05f : 0.0f,
                    .uniform = random.uniform()});
  }
  const Samples actual = run(*backend, rows), expected = run(*reference, rows);
  CHECK(difference(actual.tokens, expected.tokens) == "");
  CHECK(difference(actual.logprobs, expected.logprobs, {.relative = 2 * kF32Roundoff}) == "");
  for (size_t i = 0; i < rows.size(); ++i) {
    const Samples alone = run(*backend, {rows[i]});
    CHECK(alone.tokens[0] == actual.tokens[i]);
    CHECK(alone.logprobs[0] == actual.logprobs[i]);
  }
}

}  // namespace
}  // namespace quire::test
