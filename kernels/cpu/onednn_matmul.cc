#include "kernels/cpu/onednn_matmul.h"

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

memory::desc plain(int64_t rows, int64_t columns, DataType type) {
  return {{rows, columns}, type, Tag::ab};
}

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, int64_t num_rows,
                                      const memory::desc& weight) {
  const int64_t k = weight.dims()[0], n = weight.dims()[1];
  return {{plain(num_rows, k, weight.data_type()), weight, plain(num_rows, n, DataType::f32)},
          engine};
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
  DataType type() const { return layout_.data_type(); }
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
      has_bf16_(dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core) {}

std::unique_ptr<CpuWeight> OneDnnProducts::pack(std::span<const ConstTensorView> parts) {
  const DType dtype = parts.front().dtype;
  const int64_t k = parts.front().shape[1];
  int64_t n = 0;
  for (const ConstTensorView& part : parts) n += part.shape[0];
  const bool stays_bf16 = dtype == DType::kBF16 && has_bf16_;
  const size_t element = stays_bf16 ? 2 : 4;
  std::vector<std::byte> rows(static_cast<size_t>(n * k) * element);
  std::byte* next = rows.data();
  for (const ConstTensorView& part : parts) {
    const int64_t count = part.num_elements();
    if (dtype == DType::kBF16 && !stays_bf16) {
      to_float(part.data_as<BFloat16>(), count, reinterpret_cast<float*>(next));
    } else {
      std::memcpy(next, part.data, static_cast<size_t>(count) * element);
    }
    next += static_cast<size_t>(count) * element;
  }
  const DataType type = stays_bf16 ? DataType::bf16 : DataType::f32;
  try {
    const memory::desc any({k, n}, type, Tag::any);
    const memory::desc layout = describe(engine_, kLayoutRows, any).weights_desc();
    memory source({{k, n}, type, Tag::ba}, engine_, rows.data());
    memory packed(layout, engine_);
    dnnl::reorder(source, packed).execute(stream_, source, packed);
    stream_.wait();
    return std::make_unique<Weight>(*this, dtype, std::move(packed));
  } catch (const dnnl::error& error) {
    throw DeviceError(std::string("pack_weight: oneDNN: ") + error.what());
  }
}

const dnnl::matmul& OneDnnProducts::primitive(int64_t num_rows, const Weight& weight) {
  const Key key{num_rows, weight.num_rows(), weight.num_columns(), static_cast<int>(weight.type())};
  auto found = primitives_.find(key);
  if (found == primitives_.end()) {
    const auto description = describe(engine_, num_rows, weight.layout());
    found = primitives_.emplace(key, dnnl::matmul(description)).first;
  }
  return found->second;
}

void OneDnnProducts::run_rows(const ConstTensorView& a, const Weight& weight,
                              const TensorView& out) {
  const int64_t m = a.shape[0];
  std::vector<float> widened;
  const void* input = a.data;
  if (weight.type() == DataType::f32 && a.dtype == DType::kBF16) {
    widened.resize(static_cast<size_t>(a.num_elements()));
    to_float(a.data_as<BFloat16>(), a.num_elements(), widened.data());
    input = widened.data();
  }
  memory source(plain(m, weight.num_columns(), weight.type()), engine_, const_cast<void*>(input));
  memory target(plain(m, weight.num_rows(), DataType::f32), engine_, out.data);
  primitive(m, weight).execute(
      stream_,
      {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weight.packed()}, {DNNL_ARG_DST, target}});
  stream_.wait();
}

void OneDnnProducts::run(const ConstTensorView& a, const Weight& weight, const TensorView& out) {
  try {
    // Pieces of falling powers of two: few shapes, so few primitives to create.
    for (int64_t row = 0; row < a.shape[0];) {
      const auto left = static_cast<uint64_t>(a.shape[0] - row);
      const auto count = static_cast<int64_t>(std::bit_floor(left));
      run_rows(a.rows(row, count), weight, out.rows(row, count));
      row += count;
    }
  } catch (const dnnl::error& error) {
    throw DeviceError(std::string("matmul: oneDNN: ") + error.what());
  }
}

}  // namespace quire::cpu
