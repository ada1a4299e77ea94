#include "tests/kernels/attention_case.h"

#include <algorithm>
#include <cmath>

#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

constexpr int64_t kRowPadding = 5;
constexpr double kWeightRoundoff = 0x1p-8 + 0x1p-16;  // bf16, and the exponential before it

size_t elements(int64_t a, int64_t b, int64_t c) { return static_cast<size_t>(a * b * c); }

/// An output of a batch with poison in the rows that belong to nobody.
template <class T>
std::vector<T> with_foreign_rows(const std::vector<T>& own, int64_t width) {
  const auto foreign = static_cast<size_t>(HostileBatch::kForeignRows * width);
  std::vector<T> all(foreign, poison<T>());
  all.insert(all.end(), own.begin(), own.end());
  all.insert(all.end(), foreign, poison<T>());
  return all;
}

double largest_norm(const std::vector<BFloat16>& values, int64_t width) {
  double largest = 0;
  for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(width)) {
    double sum = 0;
    for (size_t i = begin; i < begin + static_cast<size_t>(width); ++i) {
      sum += static_cast<double>(to_float(values[i])) * static_cast<double>(to_float(values[i]));
    }
    largest = std::max(largest, sum);
  }
  return std::sqrt(largest);
}

}  // namespace

Sequence random_sequence(const KvShape& shape, int64_t num_tokens, uint32_t seed) {
  RandomTensors random(seed);
  return {.num_tokens = num_tokens,
          .query = random.normal_bf16(elements(num_tokens, shape.num_heads, shape.head_dim)),
          .key = random.normal_bf16(elements(num_tokens, shape.num_kv_heads, shape.head_dim)),
          .value = random.normal_bf16(elements(num_tokens, shape.num_kv_heads, shape.head_dim))};
}

Sequence integer_sequence(const KvShape& shape, int64_t num_tokens, uint32_t seed) {
  RandomTensors random(seed);
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  const int64_t num_blocks = num_tokens / shape.block_size + 1;
  const auto rows = random.integers(elements(num_blocks, width, 1), -2, 2);
  const auto noise = random.integers(elements(num_tokens / 2 + 1, width, 1), -8, 8);
  Sequence sequence;
  sequence.num_tokens = num_tokens;
  sequence.query =
      random.integers_bf16(elements(num_tokens, shape.num_heads, shape.head_dim), -4, 4);
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      const int32_t row = rows[static_cast<size_t>(t / shape.block_size * width + i)];
      const int32_t shift = noise[static_cast<size_t>(t / 2 * width + i)];
      sequence.key.push_back(
          to_bfloat16(static_cast<float>(t % 2 == 0 ? row + shift : row - shift)));
    }
  }
  if (shape.dtype == DType::kI8) {
    // Rows whose largest element is 127 have the scale 1, so integers stay what they are.
    for (int64_t t = 0; t < num_tokens; ++t) {
      for (int64_t i = 0; i < width; i += shape.head_dim) {
        sequence.key[static_cast<size_t>(t * width + i)] = to_bfloat16(t % 2 == 0 ? 127 : -127);
      }
    }
  }
  sequence.value = random.integers_bf16(elements(num_tokens, width, 1), -4, 4);
  return sequence;
}

Piece whole(const Sequence& sequence, int32_t top_k) {
  return {.sequence = &sequence, .first = 0, .end = sequence.num_tokens, .top_k = top_k};
}

float softmax_scale(const KvShape& shape) {
  return 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
}

std::vector<int32_t> run_gate(Backend& backend, const HostileBatch& batch, const KvShape& shape,
                              int64_t max_top_k) {
  const DeviceTensor<int32_t> selected(backend, {batch.num_rows(), shape.num_heads, max_top_k},
                                       kRowPadding);
  backend.moba_gate({.query = batch.query(),
                     .kv = batch.kv(),
                     .batch = batch.batch(),
                     .top_k = batch.top_k(),
                     .selected = selected,
                     .schedule = shape.schedule});
  return batch.own_rows(selected.download());
}

std::vector<float> run_moba_attention(Backend& backend, const HostileBatch& batch,
                                      const KvShape& shape, const std::vector<int32_t>& selected,
                                      int64_t max_top_k) {
  std::vector<int32_t> indices = selected;
  // Behind the first -1 nothing is an index.
  for (size_t i = 1; i < indices.size(); ++i) {
    const bool continues_padding = i % static_cast<size_t>(max_top_k) != 0 && indices[i] == -1 &&
                                   (indices[i - 1] == -1 || indices[i - 1] == poison<int32_t>());
    if (continues_padding) indices[i] = poison<int32_t>();
  }
  const DeviceTensor<int32_t> device_selected(
      backend, with_foreign_rows(indices, shape.num_heads * max_top_k),
      {batch.num_rows(), shape.num_heads, max_top_k}, kRowPadding);
  const DeviceTensor<float> out(backend, {batch.num_rows(), shape.num_heads, shape.head_dim},
                                kRowPadding);
  backend.moba_attention({.query = batch.query(),
                          .kv = batch.kv(),
                          .batch = batch.batch(),
                          .selected = device_selected,
                          .softmax_scale = softmax_scale(shape),
                          .out = out});
  return batch.own_rows(out.download());
}

std::vector<float> run_full_attention(Backend& backend, const HostileBatch& batch,
                                      const KvShape& shape, int32_t window) {
  const DeviceTensor<float> out(backend, {batch.num_rows(), shape.num_heads, shape.head_dim},
                                kRowPadding);
  backend.full_attention({.query = batch.query(),
                          .kv = batch.kv(),
                          .batch = batch.batch(),
                          .softmax_scale = softmax_scale(shape),
                          .out = out,
                          .window = window});
  return batch.own_rows(out.download());
}

MobaResult run_moba(Backend& backend, const KvShape& shape, const std::vector<Piece>& pieces,
                    uint32_t placement_seed, int64_t max_top_k) {
  const HostileBatch batch(backend, shape, pieces, placement_seed);
  MobaResult result;
  result.selected = run_gate(backend, batch, shape, max_top_k);
  result.out = run_moba_attention(backend, batch, shape, result.selected, max_top_k);
  return result;
}

MobaResult rows_of(const MobaResult& all, const KvShape& shape, int64_t first, int64_t end,
                   int64_t max_top_k) {
  const auto slice = [first, end](const auto& rows, int64_t width) {
    return std::decay_t<decltype(rows)>(rows.begin() + first * width, rows.begin() + end * width);
  };
  return {slice(all.selected, shape.num_heads * max_top_k),
          slice(all.out, shape.num_heads * shape.head_dim)};
}

std::vector<Chunk> chunks_of(const Backend& backend, int64_t num_tokens, int64_t chunk_size) {
  constexpr int64_t kMaxEmulated = 24;
  const int64_t num_chunks = (num_tokens + chunk_size - 1) / chunk_size;
  const int64_t num_wanted = is_emulated(backend) ? std::min(num_chunks, kMaxEmulated) : num_chunks;
  std::vector<Chunk> chunks;
  for (int64_t i = 0; i < num_wanted; ++i) {
    const int64_t index = num_wanted == 1 ? 0 : i * (num_chunks - 1) / (num_wanted - 1);
    chunks.push_back({index * chunk_size, std::min((index + 1) * chunk_size, num_tokens)});
  }
  return chunks;
}

double attention_tolerance(const KvShape& shape, const std::vector<Piece>& pieces) {
  double query = 0, key = 0, value = 0, num_keys = 0;
  for (const Piece& piece : pieces) {
    query = std::max(query, largest_norm(piece.sequence->query, shape.head_dim));
    key = std::max(key, largest_norm(piece.sequence->key, shape.head_dim));
    value = std::max(value, largest_norm(piece.sequence->value, 1));
    num_keys = std::max(num_keys, static_cast<double>(piece.end));
  }
  const double score_error = static_cast<double>(softmax_scale(shape)) *
                             static_cast<double>(shape.head_dim + 2) * kF32Roundoff * query * key;
  // An int8 cache holds a row that is a little longer, and its values may be rounded to bf16.
  if (shape.dtype == DType::kI8) {
    return 1.01 * value *
           (3 * kWeightRoundoff + 2 * score_error + 2 * (num_keys + 16) * kF32Roundoff);
  }
  return value * (2 * kWeightRoundoff + 2 * score_error + 2 * (num_keys + 16) * kF32Roundoff);
}

std::vector<KvShape> attention_shapes() {
  return {
      {.num_kv_heads = 2, .head_dim = 16, .block_size = 4, .num_heads = 4},
      {.num_kv_heads = 1, .head_dim = 20, .block_size = 8, .num_heads = 3},
      {.num_kv_heads = 3, .head_dim = 64, .block_size = 32, .num_heads = 3},
      {.num_kv_heads = 1, .head_dim = 40, .block_size = 128, .num_heads = 4},
      {.num_kv_heads = 2, .head_dim = 20, .block_size = 8, .num_heads = 4, .dtype = DType::kI8},
      {.num_kv_heads = 1, .head_dim = 64, .block_size = 128, .num_heads = 3, .dtype = DType::kI8},
  };
}

}  // namespace quire::test
