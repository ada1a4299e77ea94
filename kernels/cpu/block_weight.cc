#include "kernels/cpu/block_weight.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/block_words.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/panel_dot.h"
#include "kernels/cpu/parallel.h"

namespace quire::cpu {
namespace {

using panel_dot::kColumns;
static_assert(kColumns == block_words::kColumns);

/// Rows that one thread takes at a time; widening costs about as much as ten of them.
constexpr int64_t kRowsPerItem = 126;
static_assert(kMaxRowsAtOnce % kRowsPerItem == 0);
/// Columns of the weight that are widened at a time: 32 KiB of words.
constexpr int64_t kElementsAtOnce = 256;
constexpr int64_t kWordsAtOnce = kElementsAtOnce / panel_dot::kBf16PerWord;

class BlockWeight final : public CpuWeight {
 public:
  explicit BlockWeight(std::span<const BlockMatrix> parts)
      : num_columns_(parts.front().num_columns) {
    for (const BlockMatrix& part : parts) add(part);
  }
  int64_t num_rows() const override { return num_rows_; }
  int64_t num_columns() const override { return num_columns_; }
  DType dtype() const override { return DType::kBF16; }
  int64_t size_bytes() const override { return size_bytes_; }
  int64_t value_bytes() const override { return value_bytes_; }

  void multiply(const ConstTensorView& a, const TensorView& out, MatmulScratch&) const override {
    const int64_t num_rows_m = a.shape[0];
    const int64_t num_pieces = (num_rows_m + kRowsPerItem - 1) / kRowsPerItem;
    const auto num_panels = static_cast<int64_t>(panels_.size());
    parallel_for(num_panels * num_pieces, 1, [&](int64_t item) {
      const int64_t row = item % num_pieces * kRowsPerItem;
      const int64_t count = std::min(num_rows_m - row, kRowsPerItem);
      multiply_panel(panels_[static_cast<size_t>(item / num_pieces)], a.rows(row, count),
                     out.rows(row, count));
    });
  }

 private:
  struct Panel {
    BlockFormat format;
    const std::byte* blocks;  // [num_columns / block, panel_block_bytes]
    int64_t first_row;        // of the weight
    int64_t num_rows;         // 1 to kColumns
  };

  /// Every part has panels of its own: it may be of another format than the one before.
  void add(const BlockMatrix& part) {
    const int64_t block_elements = block_layout(part.format).num_elements;
    const int64_t block_bytes = block_layout(part.format).num_bytes;
    const int64_t num_blocks = num_columns_ / block_elements;
    const int64_t stride = block_words::panel_block_bytes(part.format);
    const int64_t num_panels = (part.num_rows + kColumns - 1) / kColumns;
    const int64_t bytes = num_panels * num_blocks * stride;
    memory_.push_back(allocate_host_memory(static_cast<size_t>(bytes)));
    auto* to = static_cast<std::byte*>(memory_.back()->data());
    parallel_for(num_panels, 1, [&](int64_t index) {
      const int64_t end = std::min((index + 1) * kColumns, part.num_rows);
      for (int64_t row = index * kColumns; row < end; ++row) {
        for (int64_t block = 0; block < num_blocks; ++block) {
          block_words::put_block(part.format, part.row(row) + block * block_bytes,
                                 row - index * kColumns,
                                 to + (index * num_blocks + block) * stride);
        }
      }
    });
    for (int64_t index = 0; index < num_panels; ++index) {
      panels_.push_back({part.format, to + index * num_blocks * stride,
                         num_rows_ + index * kColumns,
                         std::min(part.num_rows - index * kColumns, kColumns)});
    }
    num_rows_ += part.num_rows;
    size_bytes_ += bytes;
    value_bytes_ += part.num_rows * num_blocks * block_bytes;
  }

  void multiply_panel(const Panel& panel, const ConstTensorView& a, const TensorView& out) const {
    alignas(64) uint32_t words[kWordsAtOnce * kColumns];
    const int64_t block_elements = block_layout(panel.format).num_elements;
    const int64_t stride = block_words::panel_block_bytes(panel.format);
    panel_dot::Product p;
    p.a_stride_bytes = num_columns_ * int64_t{sizeof(BFloat16)};
    p.num_rows = a.shape[0];
    p.panel = words;
    p.out = out.data_as<float>() + panel.first_row;
    p.out_stride = num_rows_;
    p.num_columns = panel.num_rows;
    for (int64_t k = 0; k < num_columns_; k += kElementsAtOnce) {
      const int64_t end = std::min(k + kElementsAtOnce, num_columns_);
      for (int64_t at = k; at < end; at += block_elements) {
        block_words::widen_panel_block(panel.format, panel.blocks + at / block_elements * stride,
                                       words + (at - k) / panel_dot::kBf16PerWord * kColumns);
      }
      p.a = reinterpret_cast<const std::byte*>(a.data_as<BFloat16>() + k);
      p.num_words = (end - k) / panel_dot::kBf16PerWord;
      p.adds = k > 0;
      panel_dot::multiply_bf16(p);
    }
  }

  int64_t num_columns_;
  int64_t num_rows_ = 0;
  int64_t size_bytes_ = 0;
  int64_t value_bytes_ = 0;
  std::vector<std::unique_ptr<DeviceBuffer>> memory_;  // one for each part
  std::vector<Panel> panels_;
};

}  // namespace

std::unique_ptr<CpuWeight> make_block_panels(std::span<const BlockMatrix> parts) {
  return std::make_unique<BlockWeight>(parts);
}

}  // namespace quire::cpu
