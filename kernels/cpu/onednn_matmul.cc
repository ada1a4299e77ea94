#include "kernels/cpu/onednn_matmul.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/simd_rows.h"

namespace quire::cpu {
namespace {

using dnnl::memory;
using DataType = memory::data_type;
using Tag = memory::format_tag;

// The number of rows that decides the packed layout: a long prefill.
constexpr int64_t kLayoutRows = 512;

// Where the library has no kernel of one order for any number of rows: pieces of so many, always.
constexpr int64_t kPieceRows = 16;

memory::desc plain(int64_t rows, int64_t columns) {
  return {{rows, columns}, DataType::f32, Tag::ab};
}

/// `count` numbers as f32.
void widen(const ConstTensorView& from, int64_t count, float* to) {
  if (from.dtype == DType::kBF16) return to_float(from.data_as<BFloat16>(), count, to);
  std::memcpy(to, from.data, static_cast<size_t>(count) * sizeof(float));
}

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, int64_t num_rows,
                                      const memory::desc& weight) {
  const int64_t k = weight.dims()[0], n = weight.dims()[1];
  return {{plain(num_rows, k), weight, plain(num_rows, n)}, engine};
}

}  // namespace

class OneDnnProducts::Weight final : public CpuWeight {
 public:
  Weight(OneDnnProducts& products, DType dtype, dnnl::memory packed)
      : products_(products),
        dtype_(dtype),
        packed_(std::move(packed)),
        layout_(packed_.get_desc()) {}
  int64_t num_rows() const override { return layout_.dims()[1]; }
  int64_t num_columns() const override { return layout_.dims()[0]; }
  DType dtype() const override { return dtype_; }
  int64_t size_bytes() const override { return static_cast<int64_t>(layout_.get_size()); }
  const memory& packed() const { return packed_; }
  const memory::desc& layout() const { return layout_; }
  void multiply(const ConstTensorView& a, const TensorView& out, MatmulScratch&) const override {
    products_.run(a, *this, out);
  }

 private:
  OneDnnProducts& products_;
  DType dtype_;
  memory packed_;
  memory::desc layout_;
};

OneDnnProducts::OneDnnProducts()
    : engine_(dnnl::engine::kind::cpu, 0),
      stream_(engine_),
      has_brgemm_(dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core) {}

std::unique_ptr<CpuWeight> OneDnnProducts::pack(std::span<const ConstTensorView> parts) {
  const DType dtype = parts.front().dtype;
  const int64_t k = parts.front().shape[1];
  int64_t n = 0;
  for (const ConstTensorView& part : parts) n += part.shape[0];
  std::vector<float> rows(static_cast<size_t>(n * k));
  float* next = rows.data();
  for (const ConstTensorView& part : parts) {
    widen(part, part.num_elements(), next);
    next += part.num_elements();
  }
  try {
    const memory::desc any({k, n}, DataType::f32, Tag::any);
    const memory::desc layout = describe(engine_, kLayoutRows, any).weights_desc();
    memory source({{k, n}, DataType::f32, Tag::ba}, engine_, rows.data());
    memory packed(layout, engine_);
    dnnl::reorder(source, packed).execute(stream_, source, packed);
    stream_.wait();
    return std::make_unique<Weight>(*this, dtype, std::move(packed));
  } catch (const dnnl::error& error) {
    throw DeviceError(std::string("pack_weight: oneDNN: ") + error.what());
  }
}

const dnnl::matmul& OneDnnProducts::primitive(int64_t num_rows, const Weight& weight) {
  const Key key{num_rows, weight.num_rows(), weight.num_columns()};
  auto found = primitives_.find(key);
  if (found == primitives_.end()) {
    const auto description = describe(engine_, num_rows, weight.layout());
    found = primitives_.emplace(key, dnnl::matmul(description)).first;
  }
  return found->second;
}

void OneDnnProducts::run_rows(const ConstTensorView& a, const Weight& weight,
                              const TensorView& out) {
  const int64_t count = a.shape[0], m = has_brgemm_ ? count : kPieceRows;
  const auto width = static_cast<size_t>(weight.num_rows());
  std::vector<float> widened, padded;
  auto* input = const_cast<void*>(a.data);
  auto* output = static_cast<float*>(out.data);
  if (a.dtype == DType::kBF16 || m > count) {
    widened.resize(static_cast<size_t>(m * weight.num_columns()));
    widen(a, a.num_elements(), widened.data());
    input = widened.data();
  }
  if (m > count) {
    padded.resize(static_cast<size_t>(m) * width);
    output = padded.data();
  }
  memory source(plain(m, weight.num_columns()), engine_, input);
  memory target(plain(m, weight.num_rows()), engine_, output);
  primitive(m, weight).execute(
      stream_,
      {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weight.packed()}, {DNNL_ARG_DST, target}});
  stream_.wait();
  if (m > count) std::memcpy(out.data, output, static_cast<size_t>(count) * width * sizeof(float));
}

void OneDnnProducts::run(const ConstTensorView& a, const Weight& weight, const TensorView& out) {
  try {
    // Pieces of falling powers of two: few shapes, so few primitives to create.
    for (int64_t row = 0; row < a.shape[0];) {
      const auto left = static_cast<uint64_t>(a.shape[0] - row);
      const auto count = has_brgemm_ ? static_cast<int64_t>(std::bit_floor(left))
                                     : std::min(static_cast<int64_t>(left), kPieceRows);
      run_rows(a.rows(row, count), weight, out.rows(row, count));
      row += count;
    }
  } catch (const dnnl::error& error) {
    throw DeviceError(std::string("matmul: oneDNN: ") + error.what());
  }
}

}  // namespace quire::cpu
