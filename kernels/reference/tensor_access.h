#pragma once

#include <cstdint>
#include <exception>

#include "kernels/paged_kv.h"
#include "kernels/tensor.h"

namespace quire::reference {

/// Element offset of an index tuple. No bounds check: shapes were verified at the op's door.
template <class Ptr, class... Index>
int64_t offset_of(const BasicTensorView<Ptr>& view, Index... index) {
  int64_t offset = 0;
  size_t axis = 0;
  ((offset += static_cast<int64_t>(index) * view.stride[axis++]), ...);
  return offset;
}

/// Reads a bf16 or f32 element as float.
template <class Ptr, class... Index>
float load(const BasicTensorView<Ptr>& view, Index... index) {
  const int64_t offset = offset_of(view, index...);
  if (view.dtype == DType::kBF16) return to_float(static_cast<const BFloat16*>(view.data)[offset]);
  return static_cast<const float*>(view.data)[offset];
}

/// Writes a value, rounded to the view's dtype (bf16 or f32).
template <class... Index>
void store(const TensorView& view, float value, Index... index) {
  const int64_t offset = offset_of(view, index...);
  if (view.dtype == DType::kBF16) {
    static_cast<BFloat16*>(view.data)[offset] = to_bfloat16(value);
  } else {
    static_cast<float*>(view.data)[offset] = value;
  }
}

/// Reads what a KV cache holds at [block, kv_head, offset, i] of its k (or v): a bf16 element, or
/// an integer times its row's scale, a product that is exact in f32.
inline float load_cached(const TensorView& view, const TensorView& scales, int64_t block,
                         int64_t kv_head, int64_t offset, int64_t i) {
  if (view.dtype != DType::kI8) return load(view, block, kv_head, offset, i);
  const auto* integers = static_cast<const int8_t*>(view.data);
  return static_cast<float>(integers[offset_of(view, block, kv_head, offset, i)]) *
         load(scales, block, kv_head, offset);
}

/// Reads an element of exactly type T.
template <class T, class Ptr, class... Index>
T get(const BasicTensorView<Ptr>& view, Index... index) {
  return static_cast<const T*>(view.data)[offset_of(view, index...)];
}

/// Calls visit(seq, row, position) for every query row of the batch, rows in parallel. An exception
/// must not leave an OpenMP region, so the first one is carried out by hand.
template <class Visit>
void for_each_query_row(const RaggedBatchView& batch, const Visit& visit) {
  for (int64_t seq = 0; seq < batch.num_seqs(); ++seq) {
    const int64_t first_row = get<int32_t>(batch.cu_query_lens, seq);
    const int64_t end_row = get<int32_t>(batch.cu_query_lens, seq + 1);
    const int64_t kv_len = get<int32_t>(batch.kv_lens, seq);
    QUIRE_CHECK(first_row <= end_row && end_row - first_row <= kv_len)
        << "sequence " << seq << ": rows [" << first_row << ", " << end_row << "), kv_len "
        << kv_len;
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 4)
    for (int64_t row = first_row; row < end_row; ++row) {
      try {
        visit(seq, row, kv_len - (end_row - row));
      } catch (...) {
#pragma omp critical(quire_reference_failure)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace quire::reference
