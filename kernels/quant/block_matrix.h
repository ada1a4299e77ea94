#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/quant/block_format.h"

namespace quire {

/// A matrix in host memory whose rows are blocks of one format, row behind row.
struct BlockMatrix {
  BlockFormat format = BlockFormat::kQ8_0;
  const std::byte* data = nullptr;  // [num_rows, block_row_bytes(format, num_columns)]
  int64_t num_rows = 0;
  int64_t num_columns = 0;  // a multiple of the block's elements

  const std::byte* row(int64_t index) const {
    return data + index * block_row_bytes(format, num_columns);
  }
};

}  // namespace quire
