#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/paged_kv.h"

namespace quire {

/// The device memory behind the block pool: K, V (with their scales, where they are int8) and
/// centroids (or other digests) of every layer. Sized once.
class KvStorage {
 public:
  struct Shape {
    int32_t num_layers = 0;
    int32_t num_blocks = 0;
    int32_t num_kv_heads = 0;
    int32_t block_size = 0;
    int32_t head_dim = 0;
    int32_t num_stages = 0;      // of the selection schedule: so many more arrays of centroids
    DType dtype = DType::kBF16;  // of keys and values (kernels/paged_kv.h)
    BlockDigest digest = BlockDigest::kMean;  // what is kept of a block for the gate
  };

  /// Throws DeviceError with the bytes asked for.
  KvStorage(Backend& backend, const Shape& shape);

  std::span<const PagedKvView> layers() const { return layers_; }
  const Shape& shape() const { return shape_; }

  /// Bytes of one block over all layers: K, V, scales and digests.
  static int64_t bytes_per_block(const Shape& shape);

 private:
  PagedKvView make_layer(Backend& backend);

  Shape shape_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  std::vector<PagedKvView> layers_;
};

}  // namespace quire
