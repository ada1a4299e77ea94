#include "tests/support/hostile.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/ops/seal_blocks.h"
#include "tests/support/compare.h"
#include "tests/support/random_tensors.h"

namespace quire::test {
namespace {

constexpr int64_t kRowPadding = 3;  // odd, so that rows lose every alignment but their element's

void put(std::vector<BFloat16>& target, int64_t offset, const BFloat16* source, int64_t count) {
  std::copy_n(source, count, target.begin() + offset);
}

void put_quantized(std::vector<int8_t>& integers, std::vector<BFloat16>& scales, int64_t offset,
                   const BFloat16* source, int64_t head_dim) {
  const QuantizedRow row = quantize(widen({source, static_cast<size_t>(head_dim)}));
  std::ranges::copy(row.integers, integers.begin() + offset);
  scales[static_cast<size_t>(offset / head_dim)] = row.scale;
}

/// A [num_rows, num_kv_heads, head_dim] array as a cache of that dtype gives it back.
std::vector<float> as_stored(std::span<const BFloat16> rows, const KvShape& shape) {
  std::vector<float> stored = widen(rows);
  if (shape.dtype != DType::kI8) return stored;
  const auto head_dim = static_cast<size_t>(shape.head_dim);
  for (size_t first = 0; first < stored.size(); first += head_dim) {
    const std::span<float> row = std::span(stored).subspan(first, head_dim);
    const QuantizedRow quantized = quantize(row);
    for (size_t i = 0; i < head_dim; ++i) row[i] = quantized.value(i);
  }
  return stored;
}

}  // namespace

QuantizedRow quantize(std::span<const float> row) {
  float largest = 0;
  for (const float x : row) {
    if (!std::isfinite(x)) return {std::vector<int8_t>(row.size(), 0), poison<BFloat16>()};
    largest = std::max(largest, std::fabs(x));
  }
  // A quotient of floats that is rounded to f64 first rounds to the same f32.
  const auto step = static_cast<float>(static_cast<double>(largest) / 127);
  BFloat16 scale{static_cast<uint16_t>(std::bit_cast<uint32_t>(step) >> 16)};
  if (to_float(scale) < step) scale.bits++;
  QuantizedRow quantized{{}, scale};
  for (const float x : row) {
    const double quotient = static_cast<double>(x) / static_cast<double>(to_float(scale));
    const bool is_zero = to_float(scale) == 0;
    const double whole = is_zero ? 0 : std::nearbyint(static_cast<float>(quotient));
    quantized.integers.push_back(static_cast<int8_t>(std::clamp(whole, -127.0, 127.0)));
  }
  return quantized;
}

std::vector<BFloat16> centroid_of(const BFloat16* block_keys, const KvShape& shape) {
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  const std::vector<float> keys =
      as_stored({block_keys, static_cast<size_t>(shape.block_size * width)}, shape);
  std::vector<BFloat16> centroid;
  for (int64_t column = 0; column < width; ++column) {
    float sum = 0;
    for (int64_t run = 0; run < shape.block_size; run += kCentroidRun) {
      float sub_sum = 0;
      for (int64_t j = run; j < std::min(run + kCentroidRun, shape.block_size); ++j) {
        sub_sum += keys[static_cast<size_t>(j * width + column)];
      }
      sum += sub_sum;
    }
    centroid.push_back(to_bfloat16(sum * (1.0f / static_cast<float>(shape.block_size))));
  }
  return centroid;
}

std::vector<BFloat16> digest_of(const BFloat16* block_keys, const KvShape& shape) {
  if (shape.digest == BlockDigest::kMean) return centroid_of(block_keys, shape);
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  const std::vector<float> keys =
      as_stored({block_keys, static_cast<size_t>(shape.block_size * width)}, shape);
  std::vector<BFloat16> digest(static_cast<size_t>(2 * width));
  for (int64_t column = 0; column < width; ++column) {
    std::vector<double> component;
    for (int64_t j = 0; j < shape.block_size; ++j) {
      component.push_back(static_cast<double>(keys[static_cast<size_t>(j * width + column)]));
    }
    auto [low, high] = std::ranges::minmax(component);
    if (shape.digest == BlockDigest::kCuboidMean) {
      const double centre = (low + high) / 2;
      double distances = 0;
      for (const double x : component) distances += std::fabs(x - centre);
      low = centre - distances / static_cast<double>(shape.block_size);
      high = centre + distances / static_cast<double>(shape.block_size);
    }
    if (std::ranges::any_of(component, [](double x) { return std::isnan(x); })) low = high = NAN;
    const int64_t head = column / shape.head_dim, i = column % shape.head_dim;
    const auto at = static_cast<size_t>(2 * head * shape.head_dim + i);
    digest[at] = to_bfloat16(static_cast<float>(low));
    digest[at + static_cast<size_t>(shape.head_dim)] = to_bfloat16(static_cast<float>(high));
  }
  return digest;
}

std::vector<BFloat16> unit_centroid_of(const BFloat16* keys, int64_t group, const KvShape& shape) {
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  std::vector<float> sums(static_cast<size_t>(width), 0.0f);
  for (int64_t block = 0; block < group; ++block) {
    const auto centroid = centroid_of(keys + block * shape.block_size * width, shape);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += to_float(centroid[i]);
  }
  for (float& sum : sums) sum *= 1.0f / static_cast<float>(group);
  return narrow(sums);
}

/// Everything as it will lie in the backend's memory.
struct HostileBatch::Host {
  Host(const KvShape& shape, const std::vector<Piece>& pieces, uint32_t placement_seed);
  void place(const KvShape& shape, const Piece& piece, const std::vector<int32_t>& ids);
  void place_units(const KvShape& shape, const Piece& piece, const std::vector<int32_t>& ids);

  int64_t num_int8_blocks() const { return k_scales.empty() ? 0 : num_blocks; }

  int64_t num_blocks = 0, max_blocks = 1, num_rows = 0, num_pieces = 0;
  int32_t max_query_len = 0, max_kv_len = 0;
  std::vector<std::vector<int32_t>> block_ids;
  std::vector<BFloat16> k, v, centroids, unit_centroids, query;
  std::vector<int8_t> k_integers, v_integers;
  std::vector<BFloat16> k_scales, v_scales;
  std::vector<int32_t> cu_query_lens, kv_lens, block_tables, top_k;
};

HostileBatch::Host::Host(const KvShape& shape, const std::vector<Piece>& pieces,
                         uint32_t placement_seed)
    : num_pieces(static_cast<int64_t>(pieces.size())) {
  int64_t num_used = 0;
  for (const Piece& piece : pieces) {
    const int64_t count = (piece.end + shape.block_size - 1) / shape.block_size;
    num_used += count;
    max_blocks = std::max(max_blocks, count + 1);
  }
  num_blocks = 2 * num_used + 1;
  std::vector<int32_t> free_ids =
      RandomTensors(placement_seed).permutation(static_cast<size_t>(num_blocks));
  const int64_t tile = shape.block_size * shape.head_dim;
  k.assign(static_cast<size_t>(num_blocks * shape.num_kv_heads * tile), poison<BFloat16>());
  v = k;
  if (shape.dtype == DType::kI8) {
    k_integers.assign(k.size(), poison<int8_t>());
    k_scales.assign(k.size() / static_cast<size_t>(shape.head_dim), poison<BFloat16>());
    v_integers = k_integers;
    v_scales = k_scales;
  }
  centroids.assign(static_cast<size_t>(num_blocks * shape.num_kv_heads * shape.digest_dim()),
                   poison<BFloat16>());
  unit_centroids.assign(centroids.size() * static_cast<size_t>(shape.schedule.num_stages),
                        poison<BFloat16>());
  const auto foreign = static_cast<size_t>(kForeignRows * shape.num_heads * shape.head_dim);
  query.assign(foreign, poison<BFloat16>());
  cu_query_lens.push_back(static_cast<int32_t>(kForeignRows));
  for (const Piece& piece : pieces) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i * shape.block_size < piece.end; ++i) {
      ids.push_back(free_ids.back());
      free_ids.pop_back();
    }
    place(shape, piece, ids);
    block_tables.insert(block_tables.end(), ids.begin(), ids.end());
    block_tables.resize(block_tables.size() + static_cast<size_t>(max_blocks) - ids.size(),
                        poison<int32_t>());
    block_ids.push_back(std::move(ids));
  }
  query.insert(query.end(), foreign, poison<BFloat16>());
  num_rows = cu_query_lens.back() + kForeignRows;
}

void HostileBatch::Host::place(const KvShape& shape, const Piece& piece,
                               const std::vector<int32_t>& ids) {
  const int64_t head_dim = shape.head_dim, num_kv_heads = shape.num_kv_heads;
  for (int64_t position = 0; position < piece.end; ++position) {
    const int64_t id = ids[static_cast<size_t>(position / shape.block_size)];
    for (int64_t g = 0; g < num_kv_heads; ++g) {
      const int64_t from = (position * num_kv_heads + g) * head_dim;
      const int64_t to =
          ((id * num_kv_heads + g) * shape.block_size + position % shape.block_size) * head_dim;
      put(k, to, piece.sequence->key.data() + from, head_dim);
      put(v, to, piece.sequence->value.data() + from, head_dim);
      if (shape.dtype != DType::kI8) continue;
      put_quantized(k_integers, k_scales, to, piece.sequence->key.data() + from, head_dim);
      put_quantized(v_integers, v_scales, to, piece.sequence->value.data() + from, head_dim);
    }
  }
  for (int64_t i = 0; (i + 1) * shape.block_size <= piece.end; ++i) {
    const int64_t from = i * shape.block_size * num_kv_heads * head_dim;
    const auto digest = digest_of(piece.sequence->key.data() + from, shape);
    const auto width = static_cast<int64_t>(digest.size());
    put(centroids, ids[static_cast<size_t>(i)] * width, digest.data(), width);
  }
  place_units(shape, piece, ids);
  const int64_t query_width = shape.num_heads * head_dim;
  const auto begin = piece.sequence->query.begin();
  query.insert(query.end(), begin + piece.first * query_width, begin + piece.end * query_width);
  cu_query_lens.push_back(cu_query_lens.back() + static_cast<int32_t>(piece.num_tokens()));
  kv_lens.push_back(static_cast<int32_t>(piece.end));
  top_k.push_back(piece.top_k);
  max_query_len = std::max(max_query_len, static_cast<int32_t>(piece.num_tokens()));
  max_kv_len = std::max(max_kv_len, static_cast<int32_t>(piece.end));
}

HostileBatch::HostileBatch(Backend& backend, const KvShape& shape, const std::vector<Piece>& pieces,
                           uint32_t placement_seed)
    : HostileBatch(backend, shape, Host(shape, pieces, placement_seed)) {}

void HostileBatch::Host::place_units(const KvShape& shape, const Piece& piece,
                                     const std::vector<int32_t>& ids) {
  const int64_t width = shape.num_kv_heads * shape.head_dim;
  for (int32_t s = 0; s < shape.schedule.num_stages; ++s) {
    const int64_t group = shape.schedule.stages[static_cast<size_t>(s)].group;
    const int64_t unit_tokens = group * shape.block_size;
    for (int64_t unit = 0; (unit + 1) * unit_tokens <= piece.end; ++unit) {
      const BFloat16* keys = piece.sequence->key.data() + unit * unit_tokens * width;
      const int64_t last_block = ids[static_cast<size_t>((unit + 1) * group - 1)];
      put(unit_centroids, (s * num_blocks + last_block) * width,
          unit_centroid_of(keys, group, shape).data(), width);
    }
  }
}

// The tensors of the other kind of cache have no blocks.
HostileBatch::HostileBatch(Backend& backend, const KvShape& shape, const Host& host)
    : block_ids_(host.block_ids),
      k_(backend, host.k, {host.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim}),
      v_(backend, host.v, {host.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim}),
      centroids_(backend, host.centroids,
                 {host.num_blocks, shape.num_kv_heads, shape.digest_dim()}),
      digest_(shape.digest),
      query_(backend, host.query, {host.num_rows, shape.num_heads, shape.head_dim}, kRowPadding),
      k_integers_(backend, host.k_integers,
                  {host.num_int8_blocks(), shape.num_kv_heads, shape.block_size, shape.head_dim}),
      v_integers_(backend, host.v_integers,
                  {host.num_int8_blocks(), shape.num_kv_heads, shape.block_size, shape.head_dim}),
      k_scales_(backend, host.k_scales,
                {host.num_int8_blocks(), shape.num_kv_heads, shape.block_size}),
      v_scales_(backend, host.v_scales,
                {host.num_int8_blocks(), shape.num_kv_heads, shape.block_size}),
      unit_centroids_(
          backend, host.unit_centroids,
          {shape.schedule.num_stages, host.num_blocks, shape.num_kv_heads, shape.head_dim}),
      cu_query_lens_(backend, host.cu_query_lens, {host.num_pieces + 1}),
      kv_lens_(backend, host.kv_lens, {host.num_pieces}),
      block_tables_(backend, host.block_tables, {host.num_pieces, host.max_blocks}, kRowPadding),
      top_k_(backend, host.top_k, {host.num_pieces}),
      batch_{.cu_query_lens = cu_query_lens_,
             .kv_lens = kv_lens_,
             .block_tables = block_tables_,
             .max_query_len = host.max_query_len,
             .max_kv_len = host.max_kv_len} {}

PagedKvView HostileBatch::kv() const {
  PagedKvView kv{.k = k_.view(), .v = v_.view(), .centroids = centroids_.view()};
  kv.digest = digest_;
  if (unit_centroids_.view().shape[0] > 0) kv.unit_centroids = unit_centroids_.view();
  if (k_integers_.view().shape[0] == 0) return kv;
  kv.k = k_integers_.view();
  kv.v = v_integers_.view();
  kv.k_scales = k_scales_.view();
  kv.v_scales = v_scales_.view();
  return kv;
}

}  // namespace quire::test
