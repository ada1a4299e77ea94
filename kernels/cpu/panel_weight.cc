#include "kernels/cpu/panel_weight.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/int8_rows.h"
#include "kernels/cpu/panel_dot.h"
#include "kernels/cpu/parallel.h"

namespace quire::cpu {
namespace {

using panel_dot::kColumns;

/// Rows that one thread takes at a time; meanwhile a panel's piece stays in its cache.
constexpr int64_t kRowsPerItem = 126;
static_assert(kMaxRowsAtOnce % kRowsPerItem == 0);
/// Dot products of registers that are worth handing to another thread.
constexpr int64_t kDotsPerGrain = 2048;
constexpr int64_t kLanes = 16;

/// The unsigned bytes of panels: weight + 128, four in a word.
constexpr uint32_t kBytesOf128 = 0x80808080u;

std::vector<const BFloat16*> row_pointers(std::span<const ConstTensorView> parts) {
  std::vector<const BFloat16*> rows;
  for (const ConstTensorView& part : parts) {
    for (int64_t row = 0; row < part.shape[0]; ++row) {
      rows.push_back(part.data_as<BFloat16>() + row * part.shape[1]);
    }
  }
  return rows;
}

class PanelWeight : public CpuWeight {
 public:
  PanelWeight(int64_t num_rows, int64_t num_columns, int64_t num_words)
      : num_rows_(num_rows),
        num_columns_(num_columns),
        num_words_(num_words),
        panels_(allocate_host_memory(static_cast<size_t>(num_panels() * num_words * kColumns) *
                                     sizeof(uint32_t))) {}
  int64_t num_rows() const override { return num_rows_; }
  int64_t num_columns() const override { return num_columns_; }
  int64_t size_bytes() const override { return static_cast<int64_t>(panels_->size_bytes()); }

 protected:
  int64_t num_words() const { return num_words_; }
  int64_t num_panels() const { return (num_rows_ + kColumns - 1) / kColumns; }
  int64_t columns_of(int64_t panel) const {
    return std::min(num_rows_ - panel * kColumns, kColumns);
  }
  uint32_t* panel(int64_t index) const {
    return static_cast<uint32_t*>(panels_->data()) + index * num_words_ * kColumns;
  }

  /// Column `column` of a panel from the words of one row of the weight.
  void put_column(int64_t panel_index, int64_t column, const uint32_t* words) {
    uint32_t* to = panel(panel_index) + column;
    for (int64_t word = 0; word < num_words_; ++word) to[word * kColumns] = words[word];
  }

  /// Calls action(panel, first_row, Product) for pieces of the result, on all threads.
  template <class Action>
  void for_each_piece(const void* a, const TensorView& out, const Action& action) const {
    const int64_t num_rows_m = out.shape[0];
    const int64_t num_pieces = (num_rows_m + kRowsPerItem - 1) / kRowsPerItem;
    const int64_t dots = std::min(num_rows_m, kRowsPerItem) * num_words_ * (kColumns / kLanes);
    parallel_for(num_panels() * num_pieces, std::max<int64_t>(kDotsPerGrain / (dots + 1), 1),
                 [&](int64_t item) {
                   const int64_t index = item / num_pieces;
                   const int64_t row = item % num_pieces * kRowsPerItem;
                   panel_dot::Product p;
                   p.a = static_cast<const std::byte*>(a) + row * row_bytes();
                   p.a_stride_bytes = row_bytes();
                   p.num_rows = std::min(num_rows_m - row, kRowsPerItem);
                   p.num_words = num_words_;
                   p.panel = panel(index);
                   p.out = out.data_as<float>() + row * num_rows_ + index * kColumns;
                   p.out_stride = num_rows_;
                   p.num_columns = columns_of(index);
                   action(index, row, p);
                 });
  }
  int64_t row_bytes() const { return num_words_ * int64_t{sizeof(uint32_t)}; }

 private:
  int64_t num_rows_, num_columns_, num_words_;
  std::unique_ptr<DeviceBuffer> panels_;  // [num_panels, num_words, kColumns]
};

class Bf16Panels final : public PanelWeight {
 public:
  explicit Bf16Panels(const std::vector<const BFloat16*>& rows, int64_t k)
      : PanelWeight(static_cast<int64_t>(rows.size()), k,
                    (k + panel_dot::kBf16PerWord - 1) / panel_dot::kBf16PerWord) {
    parallel_for(num_panels(), 1, [&](int64_t index) {
      std::vector<uint32_t> words(static_cast<size_t>(num_words()));  // the last may be half zero
      for (int64_t column = 0; column < columns_of(index); ++column) {
        std::memcpy(words.data(), rows[static_cast<size_t>(index * kColumns + column)],
                    static_cast<size_t>(k) * sizeof(BFloat16));
        put_column(index, column, words.data());
      }
    });
  }
  DType dtype() const override { return DType::kBF16; }

  void multiply(const ConstTensorView& a, const TensorView& out,
                MatmulScratch& scratch) const override {
    const void* input = a.data;
    if (num_columns() % panel_dot::kBf16PerWord != 0) input = padded_rows(a, scratch);
    for_each_piece(input, out, [](int64_t, int64_t, const panel_dot::Product& product) {
      panel_dot::multiply_bf16(product);
    });
  }

 private:
  /// An odd k ends in half a word.
  const void* padded_rows(const ConstTensorView& a, MatmulScratch& scratch) const {
    scratch.words.assign(static_cast<size_t>(a.shape[0] * num_words()), 0);
    for (int64_t row = 0; row < a.shape[0]; ++row) {
      std::memcpy(scratch.words.data() + row * num_words(),
                  a.data_as<BFloat16>() + row * num_columns(),
                  static_cast<size_t>(num_columns()) * sizeof(BFloat16));
    }
    return scratch.words.data();
  }
};

class Int8Panels final : public PanelWeight {
 public:
  Int8Panels(const std::vector<const BFloat16*>& rows, int64_t k)
      : PanelWeight(static_cast<int64_t>(rows.size()), k,
                    (k + panel_dot::kInt8PerWord - 1) / panel_dot::kInt8PerWord),
        scales_(static_cast<size_t>(num_panels() * kColumns)) {
    parallel_for(num_panels(), 1, [&](int64_t index) {
      std::vector<int8_t> values(static_cast<size_t>(row_bytes()));
      std::vector<uint32_t> words(static_cast<size_t>(num_words()));
      for (int64_t column = 0; column < columns_of(index); ++column) {
        const auto row = static_cast<size_t>(index * kColumns + column);
        scales_[row] = quantise_row(rows[row], k, values.data()).scale;
        std::memcpy(words.data(), values.data(), values.size());
        for (uint32_t& word : words) word ^= kBytesOf128;
        put_column(index, column, words.data());
      }
    });
  }
  DType dtype() const override { return DType::kI8; }

  void multiply(const ConstTensorView& a, const TensorView& out,
                MatmulScratch& scratch) const override {
    quantise_rows(a, row_bytes(), scratch);
    for_each_piece(scratch.values.data(), out,
                   [&](int64_t index, int64_t row, const panel_dot::Product& product) {
                     panel_dot::multiply_int8(product,
                                              {.row_sums = scratch.sums.data() + row,
                                               .row_scales = scratch.scales.data() + row,
                                               .column_scales = scales_.data() + index * kColumns});
                   });
  }

 private:
  std::vector<float> scales_;  // [num_panels * kColumns]
};

}  // namespace

std::unique_ptr<CpuWeight> make_bf16_panels(std::span<const ConstTensorView> parts) {
  return std::make_unique<Bf16Panels>(row_pointers(parts), parts.front().shape[1]);
}

std::unique_ptr<CpuWeight> make_int8_panels(std::span<const ConstTensorView> parts) {
  return std::make_unique<Int8Panels>(row_pointers(parts), parts.front().shape[1]);
}

}  // namespace quire::cpu
