#include "engine/kv_cache/kv_storage.h"

namespace quire {
namespace {

int64_t tile_elements(const KvStorage::Shape& shape) {
  return int64_t{shape.num_kv_heads} * shape.block_size * shape.head_dim;
}

int64_t centroid_elements(const KvStorage::Shape& shape) {
  return int64_t{shape.num_kv_heads} * shape.head_dim;
}

}  // namespace

int64_t KvStorage::bytes_per_block(const Shape& shape) {
  return shape.num_layers * (2 * tile_elements(shape) + centroid_elements(shape)) *
         element_bytes(DType::kBF16);
}

// One buffer per tensor and layer: a pool of many gigabytes need not be contiguous, and an
// out-of-range access in one layer cannot pass for a valid one in the next.
KvStorage::KvStorage(Backend& backend, const Shape& shape) : shape_(shape) {
  QUIRE_CHECK(shape.num_layers > 0 && shape.num_blocks > 0 && shape.num_kv_heads > 0 &&
              shape.block_size > 0 && shape.head_dim > 0)
      << "KV storage of " << shape.num_layers << " layers, " << shape.num_blocks << " blocks, "
      << shape.num_kv_heads << " heads, block size " << shape.block_size << ", head_dim "
      << shape.head_dim;
  const auto allocate = [&](int64_t elements_per_block) {
    const int64_t num_bytes = shape.num_blocks * elements_per_block * element_bytes(DType::kBF16);
    buffers_.push_back(backend.allocate(static_cast<size_t>(num_bytes)));
    return static_cast<BFloat16*>(buffers_.back()->data());
  };
  layers_.reserve(static_cast<size_t>(shape.num_layers));
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
    PagedKvView view;
    view.k = make_view(allocate(tile_elements(shape)),
                       {shape.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim});
    view.v = make_view(allocate(tile_elements(shape)),
                       {shape.num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim});
    view.centroids = make_view(allocate(centroid_elements(shape)),
                               {shape.num_blocks, shape.num_kv_heads, shape.head_dim});
    layers_.push_back(view);
  }
}

}  // namespace quire
