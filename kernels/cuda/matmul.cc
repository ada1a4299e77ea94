#include "kernels/cuda/matmul.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cuda/fp8_product.h"
#include "kernels/cuda/int8_product.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/plan.h"

namespace quire::cuda {
namespace {

/// What all weights of this backend have in common: memory on one device.
class CudaWeight : public PackedWeight {
 public:
  CudaWeight(std::unique_ptr<DeviceBuffer> buffer, const DeviceStream* home, int64_t num_rows,
             int64_t num_columns)
      : buffer_(std::move(buffer)), home_(home), num_rows_(num_rows), num_columns_(num_columns) {}
  int64_t num_rows() const override { return num_rows_; }
  int64_t num_columns() const override { return num_columns_; }
  int64_t size_bytes() const override { return static_cast<int64_t>(buffer_->size_bytes()); }
  const DeviceStream* home() const { return home_; }

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
  const DeviceStream* home_;
  int64_t num_rows_, num_columns_;
};

/// bf16 or f32, as it came.
class OriginalWeight final : public CudaWeight {
 public:
  OriginalWeight(std::unique_ptr<DeviceBuffer> buffer, const DeviceStream* home,
                 ConstTensorView view, bool by_library)
      : CudaWeight(std::move(buffer), home, view.shape[0], view.shape[1]),
        view_(view),
        by_library_(by_library) {}
  DType dtype() const override { return view_.dtype; }
  const ConstTensorView& view() const { return view_; }
  bool by_library() const { return by_library_; }

 private:
  ConstTensorView view_;  // [n, k], contiguous
  bool by_library_;
};

class Int8Weight final : public CudaWeight {
 public:
  Int8Weight(std::unique_ptr<DeviceBuffer> buffer, const DeviceStream* home, const Int8Rows& rows,
             int64_t num_columns)
      : CudaWeight(std::move(buffer), home, rows.num_rows, num_columns), rows_(rows) {}
  DType dtype() const override { return DType::kI8; }
  const Int8Rows& rows() const { return rows_; }

 private:
  Int8Rows rows_;
};

class Fp8PackedWeight final : public CudaWeight {
 public:
  Fp8PackedWeight(std::unique_ptr<DeviceBuffer> buffer, const DeviceStream* home,
                  const Fp8Weight& weight)
      : CudaWeight(std::move(buffer), home, weight.num_rows, weight.num_columns), weight_(weight) {}
  DType dtype() const override { return DType::kBF16; }
  int64_t value_bytes() const override {
    return weight_.num_rows * (weight_.num_columns + weight_.num_tiles * int64_t{sizeof(float)});
  }
  const Fp8Weight& weight() const { return weight_; }

 private:
  Fp8Weight weight_;
};

/// Whether one step of a product sees one scale of each row, and all scales are as it needs them.
bool can_multiply(const Fp8Matrix& part, int64_t tile_columns) {
  const bool is_one_tile = part.num_column_tiles() == 1;
  return (is_one_tile || (part.tile_columns == tile_columns && tile_columns % kFp8TileUnit == 0)) &&
         std::all_of(part.scales.begin(), part.scales.end(), is_fp8_scale);
}

/// [num_rows, num_tiles]: the scales of every row. A part with one tile of columns repeats its own.
void append_row_scales(const Fp8Matrix& part, int64_t num_tiles, std::vector<float>& scales) {
  const int64_t own_tiles = part.num_column_tiles();
  for (int64_t row = 0; row < part.num_rows; ++row) {
    const auto first = static_cast<size_t>(row / part.tile_rows * own_tiles);
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      scales.push_back(part.scales[first + static_cast<size_t>(own_tiles == 1 ? 0 : tile)]);
    }
  }
}

/// Rows of integers in memory that begins at `memory` and holds `plan` for them.
Int8Rows int8_rows_at(std::byte* memory, const Int8RowsPlan& plan, int64_t num_rows,
                      int64_t pitch) {
  return {reinterpret_cast<int8_t*>(memory + plan.values),
          reinterpret_cast<float*>(memory + plan.scales), num_rows, pitch};
}

std::unique_ptr<PackedWeight> pack_int8(DeviceStream& device,
                                        std::span<const ConstTensorView> parts, int64_t n) {
  const OpStream stream = device.begin(OpId::kMatmul);
  const int64_t k = parts.front().shape[1], pitch = int8_pitch(k);
  const Int8RowsPlan plan = place_int8_rows(n, pitch);
  auto buffer = device.allocate(plan.total_bytes);
  const Int8Rows all = int8_rows_at(static_cast<std::byte*>(buffer->data()), plan, n, pitch);
  // The original rows come to the device through the scratch memory, as many as it holds at a time.
  const int64_t row_bytes = k * element_bytes(DType::kBF16);
  const int64_t rows_at_once =
      static_cast<int64_t>(stream.scratch().size()) / std::max<int64_t>(row_bytes, 1);
  QUIRE_CHECK(rows_at_once > 0) << "a row of " << row_bytes << " bytes, scratch memory of "
                                << stream.scratch().size();
  auto* const original = reinterpret_cast<BFloat16*>(stream.scratch().data());
  int64_t done = 0;
  for (const ConstTensorView& part : parts) {
    for (int64_t first = 0; first < part.shape[0]; first += rows_at_once) {
      const ConstTensorView rows = part.rows(first, std::min(rows_at_once, part.shape[0] - first));
      const auto num_bytes = static_cast<size_t>(rows.shape[0] * row_bytes);
      device.upload({static_cast<const std::byte*>(rows.data), num_bytes}, original);
      quantise_rows(make_view(static_cast<const BFloat16*>(original), {rows.shape[0], k}),
                    all.rows(done, rows.shape[0]), stream);
      done += rows.shape[0];
    }
  }
  return std::make_unique<Int8Weight>(std::move(buffer), &device, all, k);
}

void run_int8(const MatmulParams& params, const Int8Weight& weight, const OpStream& stream) {
  const int64_t num_rows = params.a.shape[0], pitch = weight.rows().pitch;
  const Int8RowsPlan plan = plan_int8_rows(num_rows, pitch, stream.scratch().size());
  for (int64_t first = 0; first < num_rows; first += plan.num_rows) {
    const int64_t count = std::min(plan.num_rows, num_rows - first);
    const Int8Rows a = int8_rows_at(stream.scratch().data(), plan, count, pitch);
    quantise_rows(params.a.rows(first, count), a, stream);
    int8_product(a, weight.rows(), params.out.rows(first, count), stream);
  }
}

/// Rows that begin at multiples of 16 bytes.
template <class View>
bool is_aligned(const View& rows) {
  return rows.stride[0] * element_bytes(rows.dtype) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(rows.data) % 16 == 0;
}

/// The same rows, aligned, in scratch memory: the library's algorithm was chosen for such.
ConstTensorView aligned_copy(const ConstTensorView& a, const OpStream& stream, size_t at_byte) {
  const auto row_bytes = static_cast<size_t>(a.shape[1]) * sizeof(BFloat16);
  const auto pitch_bytes = static_cast<size_t>(a.stride[0]) * sizeof(BFloat16);
  const auto num_rows = static_cast<size_t>(a.shape[0]);
  QUIRE_CHECK(at_byte + num_rows * row_bytes <= stream.scratch().size())
      << "no scratch memory to align " << num_rows << " rows";
  std::byte* copy = stream.scratch().data() + at_byte;
  check(cudaMemcpy2DAsync(copy, row_bytes, a.data, pitch_bytes, row_bytes, num_rows,
                          cudaMemcpyDeviceToDevice, stream.handle()),
        stream.op(), "aligning rows");
  return make_view(reinterpret_cast<const BFloat16*>(copy), {a.shape[0], a.shape[1]});
}

}  // namespace

MatmulEngine::MatmulEngine(DeviceStream& device) : device_(device), lt_(LtProducts::open()) {}

std::string MatmulEngine::description() const {
  return lt_ == nullptr ? "own products (cuBLASLt is not installed)"
                        : "cuBLASLt (" + lt_->description() + ")";
}

std::unique_ptr<PackedWeight> MatmulEngine::pack(std::span<const ConstTensorView> parts,
                                                 WeightFormat format) {
  const int64_t k = parts.front().shape[1];
  int64_t n = 0;
  for (const ConstTensorView& part : parts) n += part.shape[0];
  if (format == WeightFormat::kInt8) return pack_int8(device_, parts, n);
  const DType dtype = parts.front().dtype;
  auto buffer = device_.allocate(static_cast<size_t>(n * k * element_bytes(dtype)));
  auto* target = static_cast<std::byte*>(buffer->data());
  for (const ConstTensorView& part : parts) {
    const auto bytes = static_cast<size_t>(part.num_elements() * element_bytes(dtype));
    device_.upload({static_cast<const std::byte*>(part.data), bytes}, target);
    target += bytes;
  }
  const ConstTensorView view{buffer->data(), dtype, 2, {n, k}, {k, 1}};
  const bool by_library =
      lt_ != nullptr && dtype == DType::kBF16 && lt_->accepts(n, k, device_.begin(OpId::kMatmul));
  return std::make_unique<OriginalWeight>(std::move(buffer), &device_, view, by_library);
}

std::unique_ptr<PackedWeight> MatmulEngine::pack_fp8(std::span<const Fp8Matrix> parts) {
  Fp8Weight weight{};
  weight.num_columns = parts.front().num_columns;
  weight.pitch = fp8_pitch(weight.num_columns);
  weight.num_tiles = 1;
  weight.tile_columns = weight.num_columns;
  for (const Fp8Matrix& part : parts) {
    weight.num_rows += part.num_rows;
    if (part.num_column_tiles() == 1) continue;
    weight.num_tiles = part.num_column_tiles();
    weight.tile_columns = part.tile_columns;
  }
  std::vector<float> scales;
  for (const Fp8Matrix& part : parts) {
    if (!can_multiply(part, weight.tile_columns)) return nullptr;
    append_row_scales(part, weight.num_tiles, scales);
  }

  const auto pitch = static_cast<size_t>(weight.pitch);
  const size_t code_bytes = static_cast<size_t>(weight.num_rows) * pitch;
  auto buffer = device_.allocate(code_bytes + scales.size() * sizeof(float));
  auto* target = static_cast<std::byte*>(buffer->data());
  weight.codes = reinterpret_cast<const uint8_t*>(target);
  weight.scales = reinterpret_cast<const float*>(target + code_bytes);
  device_.upload(std::as_bytes(std::span(scales)), target + code_bytes);
  for (const Fp8Matrix& part : parts) {
    const auto width = static_cast<size_t>(part.num_columns);
    if (width == pitch) {
      device_.upload(part.codes, target);
    } else {
      for (size_t row = 0; row < static_cast<size_t>(part.num_rows); ++row) {
        device_.upload(part.codes.subspan(row * width, width), target + row * pitch);
      }
    }
    target += static_cast<size_t>(part.num_rows) * pitch;
  }
  return std::make_unique<Fp8PackedWeight>(std::move(buffer), &device_, weight);
}

void MatmulEngine::run(const MatmulParams& params) {
  const auto* any = dynamic_cast<const CudaWeight*>(params.weight);
  QUIRE_CHECK(any != nullptr && any->home() == &device_) << "a weight packed by another backend";
  if (params.a.shape[0] == 0 || params.out.shape[1] == 0) return;
  const OpStream stream = device_.begin(OpId::kMatmul);
  if (const auto* int8 = dynamic_cast<const Int8Weight*>(any)) {
    return run_int8(params, *int8, stream);
  }
  if (const auto* fp8 = dynamic_cast<const Fp8PackedWeight*>(any)) {
    return fp8_product(params.a, fp8->weight(), params.out, stream);
  }
  const auto& weight = static_cast<const OriginalWeight&>(*any);
  if (!weight.by_library()) return product(params.a, weight.view(), params.out, stream);
  const ConstTensorView a = is_aligned(params.a)
                                ? params.a
                                : aligned_copy(params.a, stream, LtProducts::kMaxWorkspaceBytes);
  QUIRE_CHECK(is_aligned(params.out))
      << "matmul: rows of the result begin at multiples of 16 bytes";
  lt_->multiply(a, weight.view(), params.out, stream);
}

}  // namespace quire::cuda
