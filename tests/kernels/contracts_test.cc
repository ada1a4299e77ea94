// Every op refuses what its header does not allow, with the expected and the actual shape, and
// before it writes anything. One broken shape per tensor and op.

#include <catch2/catch.hpp>
#include <functional>

#include "kernels/backend.h"
#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/device_tensor.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

void check_refused(const std::function<void()>& op, const std::string& names) {
  CAPTURE(names);
  CHECK_THROWS_AS(op(), ContractError);
  CHECK_THROWS_WITH(op(), Contains(names) && Contains("expected"));
}

/// With one element less along an axis, and as another type.
TensorView shorter(TensorView view, size_t axis) {
  --view.shape[axis];
  return view;
}
TensorView as(DType dtype, TensorView view) {
  view.dtype = dtype;
  return view;
}

template <class T>
void check_untouched(const DeviceTensor<T>& out) {
  for (const T& value : out.download()) REQUIRE(DeviceTensor<T>::is_poison(value));
}

TEST_CASE("contracts: embedding, rms_norm, silu_mul and matmul") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const DeviceTensor<float> x(*backend, std::vector<float>(12, 1.0f), {3, 4}),
      out(*backend, {3, 4});
  const DeviceTensor<float> weight(*backend, std::vector<float>(4), {4});
  const DeviceTensor<int32_t> tokens(*backend, {0, 1, 2}, {3});
  const TensorView narrow_out = shorter(out, 1), flat_out = shorter(out, 0);

  check_refused([&] { backend->embedding({x, tokens, narrow_out}); }, "embedding: out");
  check_refused([&] { backend->embedding({x, tokens, flat_out}); }, "embedding: out");
  check_refused([&] { backend->embedding({x, as(DType::kI64, tokens), out}); }, "tokens");
  check_refused([&] { backend->embedding({x, tokens, as(DType::kBF16, out)}); }, "actual bf16");
  check_refused([&] { backend->rms_norm({x, {}, shorter(weight, 0), 1e-5f, out}); }, "weight");
  check_refused([&] { backend->rms_norm({x, {}, weight, 1e-5f, narrow_out}); }, "rms_norm: out");
  check_refused([&] { backend->rms_norm({x, flat_out, weight, 1e-5f, out}); }, "delta");
  check_refused([&] { backend->silu_mul({x, out}); }, "gate_up");
  check_refused([&] { backend->silu_mul({x, {}}); }, "silu_mul: out");

  const std::vector<float> rows(8);
  const ConstTensorView part = make_view(rows.data(), {2, 4});
  const auto packed = backend->pack_weight({&part, 1}, WeightFormat::kOriginal);
  check_refused([&] { backend->matmul({x, packed.get(), out}); }, "matmul: out");
  check_refused([&] { backend->matmul({shorter(x, 1), packed.get(), out}); }, "matmul: a");
  check_refused([&] { backend->pack_weight({}, WeightFormat::kOriginal); }, "part");
  const std::vector<ConstTensorView> uneven{part, make_view(rows.data(), {4, 2})};
  check_refused([&] { backend->pack_weight(uneven, WeightFormat::kOriginal); }, "k=4");
  check_untouched(out);
}

TEST_CASE("contracts: add_bias and head_norm") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const DeviceTensor<float> flat(*backend, {3, 4}), heads(*backend, {3, 2, 4});
  const DeviceTensor<float> weight(*backend, std::vector<float>(4), {4});
  check_refused([&] { backend->add_bias({flat, shorter(weight, 0)}); }, "add_bias: bias");
  check_refused([&] { backend->add_bias({as(DType::kBF16, flat), weight}); }, "add_bias: x");
  check_refused([&] { backend->add_bias({heads, weight}); }, "add_bias: x");
  check_refused([&] { backend->head_norm({heads, shorter(weight, 0)}); }, "head_norm: weight");
  check_refused([&] { backend->head_norm({as(DType::kBF16, heads), weight}); }, "head_norm: x");
  check_refused([&] { backend->head_norm({flat, weight}); }, "head_norm: x");
  check_untouched(flat);
  check_untouched(heads);
}

TEST_CASE("contracts: rope and rope_table") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const DeviceTensor<float> x(*backend, std::vector<float>(24), {3, 2, 4}),
      out(*backend, {3, 2, 4});
  const DeviceTensor<float> cos(*backend, {3, 2}), sin(*backend, {3, 2});
  const DeviceTensor<int32_t> positions(*backend, {0, 1, 2}, {3});
  const DeviceTensor<double> frequencies(*backend, {1.0, 0.1}, {1, 2});
  check_refused([&] { backend->rope({x, shorter(cos, 0), sin, out}); }, "rope: cos");
  check_refused([&] { backend->rope({x, shorter(cos, 1), sin, out}); }, "rope: sin");
  check_refused([&] { backend->rope({x, cos, shorter(sin, 0), out}); }, "rope: sin");
  check_refused([&] { backend->rope({x, cos, sin, shorter(out, 1)}); }, "rope: out");
  check_refused([&] { backend->rope({shorter(x, 2), cos, sin, out}); }, "at most head_dim / 2");
  check_refused(
      [&] {
        backend->rope_table({positions, frequencies, {}, 1.0, shorter(cos, 0), sin});
      },
      "rope_table: cos");
  check_refused(
      [&] {
        backend->rope_table({positions, shorter(frequencies, 1), {}, 1.0, cos, sin});
      },
      "rope_table: cos");
  check_refused(
      [&] {
        backend->rope_table({positions, as(DType::kF32, frequencies), {}, 1.0, cos, sin});
      },
      "inv_freq");
  check_refused(
      [&] {
        backend->rope_table({positions, shorter(frequencies, 0), {}, 1.0, cos, sin});
      },
      "a set of frequencies");
  check_refused(
      [&] {
        backend->rope_table({positions, frequencies, shorter(positions, 0), 1.0, cos, sin});
      },
      "rope_table: sets");
  check_refused(
      [&] {
        backend->rope_table({positions, frequencies, as(DType::kI64, positions), 1.0, cos, sin});
      },
      "rope_table: sets");
  check_untouched(out);
  check_untouched(cos);
}

TEST_CASE("contracts: the paged ops check pool, batch and shapes") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 9, 71);
  const HostileBatch batch(*backend, shape, {whole(sequence, 2)}, 1);
  const int64_t rows = batch.num_rows();
  const DeviceTensor<int32_t> selected(*backend, {rows, shape.num_heads, 2});
  const DeviceTensor<float> out(*backend, {rows, shape.num_heads, shape.head_dim});
  const PagedKvView kv = batch.kv();
  const auto attend = [&](const PagedKvView& pool, const RaggedBatchView& ragged, TensorView to) {
    backend->full_attention({batch.query(), pool, ragged, 0.25f, to});
  };
  PagedKvView few_blocks = kv, narrow_heads = kv, gappy = kv;
  few_blocks.v.shape[0] -= 1;
  narrow_heads.centroids.shape[2] -= 1;
  gappy.k.stride[0] += 1;
  check_refused([&] { attend(few_blocks, batch.batch(), out); }, "kv.v");
  check_refused([&] { attend(narrow_heads, batch.batch(), out); }, "kv.centroids");
  check_refused([&] { attend(gappy, batch.batch(), out); }, "contiguous");
  check_refused([&] { attend(kv, batch.batch(), shorter(out, 1)); }, "full_attention: out");
  PagedKvView mixed = kv, unscaled = kv, overscaled = kv;
  mixed.v.dtype = DType::kI8;
  unscaled.k.dtype = unscaled.v.dtype = DType::kI8;
  overscaled.k_scales = kv.centroids;
  check_refused([&] { attend(mixed, batch.batch(), out); }, "kv.v");
  check_refused([&] { attend(unscaled, batch.batch(), out); }, "kv.k_scales");
  check_refused([&] { attend(overscaled, batch.batch(), out); }, "no scales");
  if (!backend->has_f32_attention()) {
    PagedKvView wide = kv;
    wide.k.dtype = wide.v.dtype = DType::kF32;
    check_refused([&] { attend(wide, batch.batch(), out); }, "kv.k");
    ConstTensorView query = batch.query();
    query.dtype = DType::kF32;
    check_refused(
        [&] {
          backend->full_attention({query, kv, batch.batch(), 0.25f, out});
        },
        "query");
  }
  RaggedBatchView ragged = batch.batch();
  ragged.cu_query_lens.shape[0] -= 1;
  check_refused([&] { attend(kv, ragged, out); }, "cu_query_lens");
  check_refused(
      [&] {
        backend->full_attention({batch.query(), kv, batch.batch(), 0.0f, out});
      },
      "softmax_scale");
  check_refused(
      [&] {
        backend->moba_gate({batch.query(), kv, batch.batch(), batch.top_k(), shorter(selected, 0)});
      },
      "moba_gate: selected");
  check_refused(
      [&] {
        backend->moba_attention(
            {batch.query(), kv, batch.batch(), as(DType::kI64, selected), 0.25f, out});
      },
      "moba_attention: selected");
  check_untouched(out);
  check_untouched(selected);
}

TEST_CASE("contracts: values that are no shapes are refused too") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 9, 72);
  const auto attend = [&](const RaggedBatchView& ragged, const HostileBatch& batch) {
    const DeviceTensor<float> out(*backend, {batch.num_rows(), shape.num_heads, shape.head_dim});
    backend->full_attention({batch.query(), batch.kv(), ragged, 0.25f, out});
    backend->synchronize();  // contents are checked where they lie
  };
  const HostileBatch batch(*backend, shape, {whole(sequence, 3)}, 1);
  RaggedBatchView ragged = batch.batch();
  const DeviceTensor<int32_t> foreign(*backend, {0, 1, 1000}, {1, 3});
  ragged.block_tables = foreign;
  CHECK_THROWS_AS(attend(ragged, batch), ContractError);
  ragged = batch.batch();
  const DeviceTensor<int32_t> too_short(*backend, {5}, {1});
  ragged.kv_lens = too_short;  // nine query rows, five tokens
  CHECK_THROWS_AS(attend(ragged, batch), ContractError);
  for (const int32_t top_k : {0, 4}) {
    const HostileBatch other(*backend, shape, {whole(sequence, top_k)}, 1);
    CHECK_THROWS_AS(run_gate(*backend, other, shape, 3), ContractError);
  }
}

TEST_CASE("contracts: sample and append_kv") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  const auto backend = make_test_backend(name);
  const DeviceTensor<float> logits(*backend, std::vector<float>(6), {2, 3}),
      ones(*backend, {1, 1}, {2});
  const DeviceTensor<int32_t> top_k(*backend, {0, 0}, {2}), tokens(*backend, {2});
  const DeviceTensor<double> uniform(*backend, {0.0, 0.0}, {2});
  const DeviceTensor<float> logprobs(*backend, {2});
  const SampleParams good{logits, ones, top_k, ones, ones, uniform, tokens, logprobs};
  SampleParams bad = good;
  bad.uniform = shorter(uniform, 0);
  check_refused([&] { backend->sample(bad); }, "sample: uniform");
  bad = good;
  bad.tokens = shorter(tokens, 0);
  check_refused([&] { backend->sample(bad); }, "sample: tokens");
  bad = good;
  bad.logits.shape[1] = 0;
  check_refused([&] { backend->sample(bad); }, "vocab_size");
  check_untouched(tokens);

  const KvShape shape;
  const Sequence sequence = random_sequence(shape, 4, 73);
  const HostileBatch batch(*backend, shape, {whole(sequence, 1)}, 1);
  const DeviceTensor<float> key(*backend, {1, shape.num_kv_heads, shape.head_dim});
  const DeviceTensor<int64_t> slots(*backend, {0}, {1});
  check_refused([&] { backend->append_kv({shorter(key, 2), key, slots, batch.kv()}); }, "value");
  check_refused([&] { backend->append_kv({key, shorter(key, 1), slots, batch.kv()}); }, "value");
  check_refused(
      [&] {
        backend->append_kv({key, key, as(DType::kI32, slots), batch.kv()});
      },
      "slots");
}

}  // namespace
}  // namespace quire::test
