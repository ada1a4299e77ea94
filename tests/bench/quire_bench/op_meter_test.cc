#include "tests/bench/quire_bench/op_meter.h"

#include <catch2/catch.hpp>

#include "kernels/backend_registry.h"
#include "tests/bench/quire_bench/measurement.h"

// Hand-computed work of one layer of width 8: two query heads and one KV head of 4, feed-forward
// 16, vocabulary 32, in blocks of 4 tokens.
//   weights of a layer: qkv 16 x 8, output 8 x 8, gate and up 32 x 8, down 8 x 16: 576 numbers
//   the head: 32 x 8 = 256 numbers

namespace quire::bench {
namespace {

BenchOptions small_options(const std::string& backend) {
  BenchOptions options;
  options.shape = "1,8,2,1,4,16,32";
  options.backend = backend;
  options.num_threads = 1;
  options.block_size = 4;
  options.top_k = 2;
  options.depths = {10};
  options.num_tokens = 4;
  options.step_tokens = 4;
  options.num_repetitions = 1;
  options.num_steps = 2;
  return options;
}

Measurement only_case(const BenchOptions& options) {
  BenchModel model(options);
  const auto measurements = run_cases(model, options);
  REQUIRE(measurements.size() == 1);
  REQUIRE(measurements.front().skipped.empty());
  REQUIRE(measurements.front().seconds.size() == static_cast<size_t>(options.num_repetitions));
  return measurements.front();
}

}  // namespace

TEST_CASE("Prefill with MoBA: positions 10 to 13", "[op_meter]") {
  const OpWork work = only_case(small_options(GENERATE("reference", "cpu"))).work;
  // Four tokens through the layer, the last one through the head.
  CHECK(work.linear_flops == 2 * (4 * 576 + 256));
  CHECK(work.weight_bytes == 2 * (576 + 256));
  // Current blocks 2, 2, 3, 3: so many centroids are scored per head, three of them read.
  CHECK(work.gate_flops == 2 * 4 * 2 * (2 + 2 + 3 + 3));
  CHECK(work.centroid_bytes == 3 * 4 * 2);
  // One whole block of history, and 3, 4, 1, 2 keys of the current block.
  CHECK(work.attention_flops == 4 * 4 * 2 * ((4 + 3) + (4 + 4) + (4 + 1) + (4 + 2)));
  // Blocks 2 and 3 (two tokens) are current; of 0 and 1 at least one is selected.
  const double tokens_read = work.kv_bytes / (2 * 4 * 2);
  CHECK((tokens_read == 10 || tokens_read == 14));
}

TEST_CASE("An int8 cache halves the elements and adds the scales", "[op_meter]") {
  BenchOptions options = small_options(GENERATE("reference", "cpu"));
  options.kv_dtype = DType::kI8;
  options.top_k = 4;  // everything: 14 tokens
  const OpWork work = only_case(options).work;
  CHECK(work.kv_bytes == 14 * 2 * (4 + 2));
}

TEST_CASE("Int8 weights are a byte each, and four for the scale of a row", "[op_meter]") {
  BenchOptions options = small_options(GENERATE("reference", "cpu"));
  const OpWork original = only_case(options).work;
  options.weights = WeightFormat::kInt8;
  const OpWork work = only_case(options).work;
  CHECK(work.linear_flops == original.linear_flops);
  // Rows of the four matrices and of the head.
  CHECK(work.weight_bytes == original.weight_bytes / 2 + 4 * (16 + 8 + 32 + 8 + 32));
}

TEST_CASE("Prefill with MoBA that selects everything reads no centroid", "[op_meter]") {
  BenchOptions options = small_options("cpu");
  options.top_k = 4;
  const OpWork work = only_case(options).work;
  CHECK(work.gate_flops == 0);
  CHECK(work.centroid_bytes == 0);
  CHECK(work.attention_flops == 4 * 4 * 2 * (11 + 12 + 13 + 14));
  CHECK(work.kv_bytes == 14 * 4 * 2 * 2);
}

TEST_CASE("Prefill with full attention", "[op_meter]") {
  BenchOptions options = small_options("cpu");
  options.attention = AttentionMode::kFull;
  const OpWork work = only_case(options).work;
  CHECK(work.gate_flops == 0);
  CHECK(work.attention_flops == 4 * 4 * 2 * (11 + 12 + 13 + 14));
  CHECK(work.kv_bytes == 14 * 4 * 2 * 2);
}

TEST_CASE("A whole document in two steps", "[op_meter]") {
  BenchOptions options = small_options("cpu");
  options.attention = AttentionMode::kFull;
  options.is_whole = true;
  options.depths = {6};
  const Measurement m = only_case(options);
  CHECK(m.num_steps() == 2);
  CHECK(m.work.linear_flops == 2 * (6 * 576 + 256));
  CHECK(m.work.attention_flops == 4 * 4 * 2 * (1 + 2 + 3 + 4 + 5 + 6));
  CHECK(m.work.weight_bytes == 2 * (576 + 576 + 256));
  CHECK(m.work.kv_bytes == (4 + 6) * 4 * 2 * 2);
}

TEST_CASE("Decode of three sequences, positions 10 and 11", "[op_meter]") {
  BenchOptions options = small_options(GENERATE("reference", "cpu"));
  options.mode = BenchMode::kDecode;
  options.batch_sizes = {3};
  const Measurement m = only_case(options);
  CHECK(m.total_tokens() == 6);
  CHECK(m.work.linear_flops == 2 * 6 * (576 + 256));
  CHECK(m.work.weight_bytes == 2 * 2 * (576 + 256));
  CHECK(m.work.gate_flops == 6 * 2 * 4 * 2 * 2);
  CHECK(m.work.centroid_bytes == 6 * 2 * 4 * 2);
  CHECK(m.work.attention_flops == 3 * 4 * 4 * 2 * ((4 + 3) + (4 + 4)));
}

TEST_CASE("The floor is what the slower of both limits allows", "[op_meter]") {
  OpWork work;
  work.linear_flops = 6e9;
  work.gate_flops = 1e9;
  work.attention_flops = 1e9;
  work.weight_bytes = 2e9;
  work.kv_bytes = 1e9;
  const Floor compute = floor_of(work, {.gflops = 2, .gbytes_per_s = 1, .source = ""});
  CHECK(compute.seconds == Approx(4));
  CHECK_FALSE(compute.is_memory_bound);
  const Floor memory = floor_of(work, {.gflops = 4, .gbytes_per_s = 1, .source = ""});
  CHECK(memory.seconds == Approx(3));
  CHECK(memory.is_memory_bound);
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == 2.5);
}

namespace {

/// Counts what it is told about steps, and how often it is waited for.
class StepCounter final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void begin_decode_step() override { ++num_begun; }
  void end_decode_step() override { ++num_ended; }
  void synchronize() override { ++num_waits; }

  int num_begun = 0, num_ended = 0, num_waits = 0;
};

void run_step(MeteredBackend& backend) {
  const std::vector<float> values{3, 4};
  const int32_t token = 1;
  float out = 0;
  DecodeStep step(backend);
  backend.embedding({.table = make_view(values.data(), {2, 1}),
                     .tokens = make_view(&token, {1}),
                     .out = make_view(&out, {1, 1})});
  step.end();
  CHECK(out == 4);
}

}  // namespace

TEST_CASE("A decode step is collected unless its ops are counted or waited for", "[op_meter]") {
  auto owned = std::make_unique<StepCounter>(make_backend("reference"));
  StepCounter& counter = *owned;
  MeteredBackend backend(std::move(owned));
  run_step(backend);
  CHECK(counter.num_begun == 1);
  CHECK(counter.num_ended == 1);
  backend.start_counting();
  run_step(backend);
  backend.stop_counting();
  CHECK(counter.num_begun == 1);
  CHECK(counter.num_waits == 0);
  backend.wait_for_ops();
  run_step(backend);
  CHECK(counter.num_begun == 1);
  CHECK(counter.num_ended == 1);
  CHECK(counter.num_waits == 1);
}

}  // namespace quire::bench
