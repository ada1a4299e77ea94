#include "kernels/cpu/matmul.h"

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
// Products run in pieces of at most so many rows, which bounds the number of primitives.
constexpr int64_t kMaxRows = 1024;

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

class MatmulEngine::Weight final : public PackedWeight {
 public:
  Weight(int64_t n, int64_t k, dnnl::memory packed)
      : n_(n), k_(k), packed_(std::move(packed)), layout_(packed_.get_desc()) {}
  int64_t num_rows() const override { return n_; }
  int64_t num_columns() const override { return k_; }
  int64_t size_bytes() const override { return static_cast<int64_t>(layout_.get_size()); }
  const memory& packed() const { return packed_; }
  const memory::desc& layout() const { return layout_; }
  DataType type() const { return layout_.data_type(); }
  DType original_dtype = DType::kBF16;

 private:
  int64_t n_, k_;
  memory packed_;
  memory::desc layout_;
};

MatmulEngine::MatmulEngine()
    : engine_(dnnl::engine::kind::cpu, 0),
      stream_(engine_),
      has_bf16_(dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core) {}

MatmulEngine::~MatmulEngine() = default;

std::unique_ptr<PackedWeight> MatmulEngine::pack(std::span<const ConstTensorView> parts) {
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
    auto weight = std::make_unique<Weight>(n, k, std::move(packed));
    weight->original_dtype = dtype;
    return weight;
  } catch (const dnnl::error& error) {
    throw DeviceError(std::string("pack_weight: oneDNN: ") + error.what());
  }
}

const dnnl::matmul& MatmulEngine::primitive(int64_t num_rows, const Weight& weight) {
  const Key key{num_rows, weight.num_rows(), weight.num_columns(), static_cast<int>(weight.type())};
  auto found = primitives_.find(key);
  if (found == primitives_.end()) {
    const auto description = describe(engine_, num_rows, weight.layout());
    found = primitives_.emplace(key, dnnl::matmul(description)).first;
  }
  return found->second;
}

void MatmulEngine::run_rows(const ConstTensorView& a, const Weight& weight, const TensorView& out) {
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

void MatmulEngine::run(const MatmulParams& params) {
  const auto* weight = dynamic_cast<const Weight*>(params.weight);
  QUIRE_CHECK(weight != nullptr) << "matmul: a weight packed by another backend";
  QUIRE_CHECK(weight->original_dtype == params.a.dtype)
      << "matmul: weight " << dtype_name(weight->original_dtype) << ", a "
      << dtype_name(params.a.dtype);
  QUIRE_CHECK(params.a.is_contiguous() && params.out.is_contiguous())
      << "matmul: a and out must be contiguous";
  try {
    // Pieces of kMaxRows, then of falling powers of two: few shapes, so few primitives to create.
    for (int64_t row = 0; row < params.a.shape[0];) {
      const auto left = static_cast<uint64_t>(params.a.shape[0] - row);
      const auto count = std::min<int64_t>(kMaxRows, static_cast<int64_t>(std::bit_floor(left)));
      run_rows(params.a.rows(row, count), *weight, params.out.rows(row, count));
      row += count;
    }
  } catch (const dnnl::error& error) {
    throw DeviceError(std::string("matmul: oneDNN: ") + error.what());
  }
}

}  // namespace quire::cpu
