#include "engine/kv_cache/kv_storage.h"

namespace quire {
namespace {

/// Scales of one block's keys, or of its values, in one layer; 0 where they have none.
int64_t scale_elements(const KvStorage::Shape& shape) {
  return shape.dtype == DType::kI8 ? int64_t{shape.num_kv_heads} * shape.block_size : 0;
}

int64_t tile_elements(const KvStorage::Shape& shape) {
  return int64_t{shape.num_kv_heads} * shape.block_size * shape.head_dim;
}

/// Numbers that the gate has of one block in one layer.
int64_t digest_elements(const KvStorage::Shape& shape) {
  const int64_t num_units = int64_t{shape.num_stages} * shape.head_dim;
  return shape.num_kv_heads * (digest_dim(shape.digest, shape.head_dim) + num_units);
}

}  // namespace

int64_t KvStorage::bytes_per_block(const Shape& shape) {
  const int64_t num_bf16 = 2 * scale_elements(shape) + digest_elements(shape);
  return shape.num_layers * (2 * tile_elements(shape) * element_bytes(shape.dtype) +
                             num_bf16 * element_bytes(DType::kBF16));
}

// One buffer per tensor and layer: a pool of many gigabytes need not be contiguous, and an
// out-of-range access in one layer cannot pass for a valid one in the next.
KvStorage::KvStorage(Backend& backend, const Shape& shape) : shape_(shape) {
  QUIRE_CHECK(shape.num_layers > 0 && shape.num_blocks > 0 && shape.num_kv_heads > 0 &&
              shape.block_size > 0 && shape.head_dim > 0)
      << "KV storage of " << shape.num_layers << " layers, " << shape.num_blocks << " blocks, "
      << shape.num_kv_heads << " heads, block size " << shape.block_size << ", head_dim "
      << shape.head_dim;
  QUIRE_CHECK(shape.dtype == DType::kBF16 || shape.dtype == DType::kI8 ||
              (shape.dtype == DType::kF32 && backend.has_f32_attention()))
      << "KV storage of " << dtype_name(shape.dtype);
  QUIRE_CHECK(shape.digest == BlockDigest::kMean || shape.num_stages == 0)
      << "KV storage of " << digest_name(shape.digest) << " with " << shape.num_stages << " stages";
  layers_.reserve(static_cast<size_t>(shape.num_layers));
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) layers_.push_back(make_layer(backend));
}

PagedKvView KvStorage::make_layer(Backend& backend) {
  const int64_t blocks = shape_.num_blocks, heads = shape_.num_kv_heads;
  const auto allocate = [&](DType dtype, std::initializer_list<int64_t> extents) {
    TensorView view = make_view(static_cast<void*>(nullptr), dtype, extents);
    buffers_.push_back(
        backend.allocate(static_cast<size_t>(view.num_elements() * element_bytes(dtype))));
    view.data = buffers_.back()->data();
    return view;
  };
  PagedKvView view;
  view.digest = shape_.digest;
  view.k = allocate(shape_.dtype, {blocks, heads, shape_.block_size, shape_.head_dim});
  view.v = allocate(shape_.dtype, {blocks, heads, shape_.block_size, shape_.head_dim});
  view.centroids = allocate(DType::kBF16, {blocks, heads, view.digest_dim()});
  if (shape_.num_stages > 0) {
    view.unit_centroids =
        allocate(DType::kBF16, {shape_.num_stages, blocks, heads, shape_.head_dim});
  }
  if (shape_.dtype == DType::kI8) {
    view.k_scales = allocate(DType::kBF16, {blocks, heads, shape_.block_size});
    view.v_scales = allocate(DType::kBF16, {blocks, heads, shape_.block_size});
  }
  return view;
}

}  // namespace quire
