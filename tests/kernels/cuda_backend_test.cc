// What is the CUDA backend's own: passes, schedules, faults that are found on the device, failures
// of the device. On the emulated device, which can be told to fail and to run threads in any order.

#include "kernels/cuda/cuda_backend.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/cuda_emulator/emulator.h"
#include "tests/kernels/attention_case.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

struct Results {
  MobaResult moba;
  std::vector<float> full, products;
  std::vector<int32_t> tokens;
};

/// One matrix times others of bf16 and of integers.
std::vector<float> run_products(Backend& backend) {
  constexpr int64_t kRows = 40, kColumns = 70, kDepth = 90;
  RandomTensors random(76);
  const auto weight = random.normal_bf16(kColumns * kDepth);
  const auto a = random.normal_bf16(kRows * kDepth);
  std::vector<float> products;
  for (const auto format : {WeightFormat::kOriginal, WeightFormat::kInt8}) {
    const ConstTensorView part = make_view(weight.data(), {kColumns, kDepth});
    const auto packed = backend.pack_weight({&part, 1}, format);
    const DeviceTensor<BFloat16> rows(backend, a, {kRows, kDepth}, 3);
    const DeviceTensor<float> out(backend, {kRows, kColumns}, 5);
    backend.matmul({.a = rows, .weight = packed.get(), .out = out});
    const auto product = out.download();
    products.insert(products.end(), product.begin(), product.end());
  }
  return products;
}

std::vector<int32_t> run_sample(Backend& backend) {
  constexpr int64_t kRows = 3, kVocabSize = 1500;
  const auto values = RandomTensors(77).normal(kRows * kVocabSize, 3.0f);
  const DeviceTensor<float> logits(backend, values, {kRows, kVocabSize});
  const DeviceTensor<float> temperature(backend, {0.8f, 1.3f, 0.0f}, {kRows});
  const DeviceTensor<float> top_p(backend, {0.9f, 0.7f, 1.0f}, {kRows});
  const DeviceTensor<float> min_p(backend, {0.0f, 0.01f, 0.0f}, {kRows});
  const DeviceTensor<int32_t> top_k(backend, {300, 0, 0}, {kRows}), tokens(backend, {kRows});
  const DeviceTensor<double> uniform(backend, {0.3, 0.8, 0.5}, {kRows});
  const DeviceTensor<float> logprobs(backend, {kRows});
  backend.sample({logits, temperature, top_k, top_p, min_p, uniform, tokens, logprobs});
  return tokens.download();
}

/// The ops whose threads meet, over a cache of bf16 or of integers.
Results run_all(Backend& backend, DType dtype) {
  KvShape shape{.num_kv_heads = 2, .head_dim = 48, .block_size = 8, .num_heads = 6, .dtype = dtype};
  shape.schedule.num_stages = 1;
  shape.schedule.stages[0] = {.from = 60, .group = 2, .top_k = 2};
  const Sequence first = random_sequence(shape, 90, 71), second = random_sequence(shape, 33, 72);
  const std::vector<Piece> pieces{{&first, 20, 90, 4}, {&second, 32, 33, 3}, {&second, 0, 9, 2}};
  Results results;
  results.moba = run_moba(backend, shape, pieces, 5, 5);
  for (const int32_t window : {0, 30}) {
    const auto out =
        run_full_attention(backend, HostileBatch(backend, shape, pieces, 6), shape, window);
    results.full.insert(results.full.end(), out.begin(), out.end());
  }
  results.products = run_products(backend);
  results.tokens = run_sample(backend);
  return results;
}

void check_equal(const Results& actual, const Results& expected) {
  CHECK(difference(actual.moba.selected, expected.moba.selected) == "");
  CHECK(difference(actual.moba.out, expected.moba.out) == "");
  CHECK(difference(actual.full, expected.full) == "");
  CHECK(difference(actual.products, expected.products) == "");
  CHECK(actual.tokens == expected.tokens);
}

TEST_CASE("cuda: scratch memory of any size, so passes of any number, give the same bits") {
  const DType dtype = GENERATE(DType::kBF16, DType::kI8);
  const Results expected = run_all(*make_cuda_backend(0, {}), dtype);
  for (const int64_t scratch_bytes : {int64_t{20'000}, int64_t{60'000}, int64_t{1'000'000}}) {
    CAPTURE(scratch_bytes);
    const auto backend = make_cuda_backend(0, {.num_threads = 0, .scratch_bytes = scratch_bytes});
    check_equal(run_all(*backend, dtype), expected);
  }
}

TEST_CASE("cuda: no result depends on the order in which threads run between barriers") {
  const DType dtype = GENERATE(DType::kBF16, DType::kI8);
  const Results expected = run_all(*make_cuda_backend(0, {}), dtype);
  for (const auto schedule : {emulator::Schedule::kBackward, emulator::Schedule::kShuffled}) {
    emulator::set_schedule(schedule);
    check_equal(run_all(*make_cuda_backend(0, {}), dtype), expected);
  }
  emulator::set_schedule(emulator::Schedule::kForward);
}

TEST_CASE("cuda: no result depends on when copies land before they are waited for") {
  const DType dtype = GENERATE(DType::kBF16, DType::kI8);
  const Results expected = run_all(*make_cuda_backend(0, {}), dtype);
  emulator::land_copies_at_once(true);
  const Results early = run_all(*make_cuda_backend(0, {}), dtype);
  emulator::land_copies_at_once(false);
  check_equal(early, expected);
}

TEST_CASE("cuda: every width of head that kernels are compiled for, copied whole and by elements") {
  const int64_t head_dim = GENERATE(64, 104, 128, 200, 256);
  const DType dtype = GENERATE(DType::kBF16, DType::kI8);
  CAPTURE(head_dim, dtype_name(dtype));
  const KvShape shape{
      .num_kv_heads = 2, .head_dim = head_dim, .block_size = 96, .num_heads = 4, .dtype = dtype};
  const Sequence sequence = random_sequence(shape, 3 * 96 + 5, 75);
  const std::vector<Piece> pieces{{&sequence, 190, 3 * 96 + 5, 3}, {&sequence, 130, 131, 2}};
  const auto cuda = make_cuda_backend(0, {}), reference = make_backend("reference");
  const HostileBatch batch(*cuda, shape, pieces, 1), expected(*reference, shape, pieces, 2);
  const Tolerance tolerance{.absolute = attention_tolerance(shape, pieces)};
  const auto selected = run_gate(*reference, expected, shape, 3);
  CHECK(difference(run_moba_attention(*cuda, batch, shape, selected, 3),
                   run_moba_attention(*reference, expected, shape, selected, 3), tolerance) == "");
  CHECK(difference(run_full_attention(*cuda, batch, shape),
                   run_full_attention(*reference, expected, shape), tolerance) == "");
}

TEST_CASE(
    "cuda: int8 products in passes, over weights that came through scratch memory in pieces") {
  // Scratch memory for 5 rows of the weight, and for 8 rows of integers.
  const auto little = make_cuda_backend(0, {.num_threads = 0, .scratch_bytes = 1024});
  const auto actual = run_products(*little), expected = run_products(*make_backend("reference"));
  const auto half = static_cast<std::ptrdiff_t>(actual.size() / 2);
  CHECK(difference(std::vector<float>(actual.begin() + half, actual.end()),
                   std::vector<float>(expected.begin() + half, expected.end())) == "");
}

TEST_CASE("cuda: a history long enough to be split over blocks is searched to its end") {
  const KvShape shape{.num_kv_heads = 1, .head_dim = 16, .block_size = 2, .num_heads = 2};
  const Sequence sequence = integer_sequence(shape, 1001, 73);
  const std::vector<Piece> decode{{&sequence, 1000, 1001, 40}};
  const auto cuda = make_cuda_backend(0, {}), reference = make_backend("reference");
  CHECK(difference(run_gate(*cuda, HostileBatch(*cuda, shape, decode, 1), shape, 40),
                   run_gate(*reference, HostileBatch(*reference, shape, decode, 1), shape, 40)) ==
        "");
}

TEST_CASE(
    "cuda: rows that keep few blocks beside rows that keep many choose as the reference does") {
  // Long lists lie in global memory, short ones in shared: here both, by sequence and by stage.
  KvShape shape{.num_kv_heads = 2, .head_dim = 16, .block_size = 2, .num_heads = 4};
  const bool by_stage = GENERATE(false, true);
  CAPTURE(by_stage);
  if (by_stage) {
    shape.schedule.num_stages = 1;
    shape.schedule.stages[0] = {.from = 100, .group = 4, .top_k = 10};
  }
  const Sequence many = integer_sequence(shape, 260, 78), few = integer_sequence(shape, 200, 79);
  const std::vector<Piece> pieces{{&few, 80, 120, 32}, {&many, 90, 110, 40}, {&few, 199, 200, 3}};
  const auto cuda = make_cuda_backend(0, {}), reference = make_backend("reference");
  CHECK(difference(run_gate(*cuda, HostileBatch(*cuda, shape, pieces, 1), shape, 40),
                   run_gate(*reference, HostileBatch(*reference, shape, pieces, 1), shape, 40)) ==
        "");
}

TEST_CASE("cuda: a row with infinite logits yields one of their tokens") {
  const auto backend = make_cuda_backend(0, {});
  const float infinity = HUGE_VALF, nan = std::nanf("");
  const DeviceTensor<float> logits(
      *backend, {1, infinity, -3, infinity, nan, infinity, 2, infinity, -infinity, nan}, {2, 5});
  const DeviceTensor<float> temperature(*backend, {0.5f, 1.0f}, {2}),
      min_p(*backend, {0.1f, 0}, {2});
  const DeviceTensor<float> top_p(*backend, {0.9f, 1.0f}, {2}), logprobs(*backend, {2});
  const DeviceTensor<int32_t> top_k(*backend, {2, 0}, {2}), tokens(*backend, {2});
  const DeviceTensor<double> uniform(*backend, {0.99, 0.2}, {2});
  backend->sample({logits, temperature, top_k, top_p, min_p, uniform, tokens, logprobs});
  CHECK(tokens.download() == std::vector<int32_t>{3, 0});
}

TEST_CASE("cuda: runs of full attention meet where a prefill and a decode step agree") {
  const KvShape shape{.num_kv_heads = 1, .head_dim = 16, .block_size = 512, .num_heads = 1};
  const Sequence sequence = random_sequence(shape, 2 * 2048 + 3, 74);
  const auto run = [&](Backend& backend, int64_t first, int64_t end) {
    return run_full_attention(backend, HostileBatch(backend, shape, {{&sequence, first, end}}, 1),
                              shape);
  };
  const auto cuda = make_cuda_backend(0, {}), reference = make_backend("reference");
  const int64_t first = 2048 - 2, end = sequence.num_tokens;
  const auto prefill = run(*cuda, first, end);
  CHECK(difference(prefill, run(*reference, first, end),
                   {.absolute = attention_tolerance(shape, {{&sequence, first, end}})}) == "");
  for (const int64_t position : {first, int64_t{2047}, int64_t{2048}, int64_t{4095}, end - 1}) {
    CAPTURE(position);
    const auto row = std::span(prefill).subspan(static_cast<size_t>((position - first) * 16), 16);
    CHECK(difference(run(*cuda, position, position + 1), row) == "");
  }
}

TEST_CASE("cuda: a fault names its op and its values, and the backend goes on") {
  const auto backend = make_cuda_backend(0, {});
  const DeviceTensor<float> table(*backend, std::vector<float>(8, 1.0f), {4, 2});
  const DeviceTensor<float> out(*backend, {1, 2});
  const DeviceTensor<int32_t> bad(*backend, {4}, {1}), good(*backend, {3}, {1});
  backend->embedding({.table = table, .tokens = bad, .out = out});
  CHECK_THROWS_WITH(backend->synchronize(), Contains("embedding") && Contains("token 4 of 4"));
  backend->embedding({.table = table, .tokens = good, .out = out});
  CHECK(difference(out.download(), std::vector<float>{1, 1}) == "");
}

TEST_CASE("cuda: a failing device is a DeviceError that names the op") {
  const auto backend = make_cuda_backend(0, {});
  const DeviceTensor<float> table(*backend, std::vector<float>(8, 1.0f), {4, 2});
  const DeviceTensor<float> out(*backend, {1, 2});
  const DeviceTensor<int32_t> tokens(*backend, {3}, {1});
  emulator::fail_next("launch");
  CHECK_THROWS_AS(backend->embedding({.table = table, .tokens = tokens, .out = out}), DeviceError);
  emulator::fail_next("launch");
  CHECK_THROWS_WITH(backend->embedding({.table = table, .tokens = tokens, .out = out}),
                    Contains("embedding") && Contains("launch failure"));
  emulator::fail_next("cudaStreamSynchronize");
  CHECK_THROWS_AS(backend->synchronize(), DeviceError);
  // The runtime remembers that failure; no later launch is to blame for it.
  CHECK_NOTHROW(backend->embedding({.table = table, .tokens = tokens, .out = out}));
  emulator::fail_next("cudaMalloc");
  CHECK_THROWS_WITH(backend->allocate(12345), Contains("12345 bytes") && Contains("free are"));
  backend->embedding({.table = table, .tokens = tokens, .out = out});
  CHECK(difference(out.download(), std::vector<float>{1, 1}) == "");
}

TEST_CASE("cuda: the ops of a decode step happen when it ends, with the arguments that they had") {
  const auto backend = make_cuda_backend(0, {});
  const DeviceTensor<float> table(*backend, {1, 2, 3, 4}, {4, 1});
  const DeviceTensor<float> out(*backend, {0, 0}, {2, 1});
  const DeviceTensor<int32_t> tokens(*backend, {3, 1}, {2});
  const auto look_up = [&](int64_t first, int64_t count) {
    backend->embedding({.table = table,
                        .tokens = ConstTensorView(tokens).rows(first, count),
                        .out = TensorView(out).rows(first, count)});
  };
  {
    DecodeStep step(*backend);
    look_up(0, 1);
    CHECK(*static_cast<const float*>(TensorView(out).data) == 0);  // memory of the emulated device
    step.end();
  }
  CHECK(difference(out.download(), std::vector<float>{4, 0}) == "");
  {
    const DecodeStep abandoned(*backend);
    look_up(1, 1);
  }
  CHECK(difference(out.download(), std::vector<float>{4, 0}) == "");
  // The same operation with other arguments: the executable of the first step takes them.
  const int num_instantiated = emulator::graph_counts().instantiated;
  {
    DecodeStep step(*backend);
    look_up(1, 1);
    step.end();
  }
  CHECK(difference(out.download(), std::vector<float>{4, 2}) == "");
  CHECK(emulator::graph_counts().instantiated == num_instantiated);
}

TEST_CASE("cuda: steps of more kinds than graphs are kept") {
  const auto backend = make_cuda_backend(0, {});
  const DeviceTensor<float> table(*backend, {1, 2}, {2, 1});
  const DeviceTensor<float> out(*backend, {0}, {1, 1});
  const DeviceTensor<int32_t> tokens(*backend, {0, 1}, {2});
  for (int round = 0; round < 2; ++round) {
    for (int num_ops = 1; num_ops <= 12; ++num_ops) {
      DecodeStep step(*backend);
      for (int i = 0; i < num_ops; ++i) {
        backend->embedding({.table = table,
                            .tokens = ConstTensorView(tokens).rows((i + round) % 2, 1),
                            .out = out});
      }
      step.end();
      const float expected = (num_ops - 1 + round) % 2 == 0 ? 1.0f : 2.0f;
      CHECK(difference(out.download(), std::vector<float>{expected}) == "");
    }
  }
}

TEST_CASE("cuda: uploads and downloads larger than the staging memory arrive whole") {
  const auto backend = make_cuda_backend(0, {});
  std::vector<std::byte> host((size_t{20} << 20) + 3), back(host.size());
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<std::byte>(i * 31 + i / 4096);
  const auto buffer = backend->allocate(host.size());
  backend->upload(host, buffer->data());
  backend->download(buffer->data(), back);
  CHECK(back == host);
  CHECK(backend->device_memory().total_bytes > backend->device_memory().free_bytes);
}

}  // namespace
}  // namespace quire::test
