#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/fault.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// A tensor as a kernel argument: at most three axes, the last one contiguous. Strides in elements.
template <class T>
struct Rows {
  T* data;
  int64_t stride0, stride1;
};

/// The same for bf16 or f32, decided at run time. The branch is the same for all threads.
struct FloatRows {
  void* data;
  bool is_bf16;
  int64_t stride0, stride1;
};

template <class T, class Ptr>
Rows<T> rows_of(const BasicTensorView<Ptr>& view) {
  return {static_cast<T*>(const_cast<void*>(static_cast<const void*>(view.data))), view.stride[0],
          view.rank > 2 ? view.stride[1] : 0};
}

template <class Ptr>
FloatRows float_rows_of(const BasicTensorView<Ptr>& view) {
  return {const_cast<void*>(static_cast<const void*>(view.data)), view.dtype == DType::kBF16,
          view.stride[0], view.rank > 2 ? view.stride[1] : 0};
}

inline bool is_16_byte_aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

__device__ __forceinline__ float widen(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

/// to_bfloat16 of kernels/bfloat16.h, on the device.
__device__ __forceinline__ BFloat16 narrow(float value) {
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return {static_cast<uint16_t>((bits >> 16) | 0x0040u)};
  }
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

__device__ __forceinline__ float load(const FloatRows& rows, int64_t offset) {
  if (rows.is_bf16) return widen(static_cast<const BFloat16*>(rows.data)[offset]);
  return static_cast<const float*>(rows.data)[offset];
}

__device__ __forceinline__ void store(const FloatRows& rows, int64_t offset, float value) {
  if (rows.is_bf16) {
    static_cast<BFloat16*>(rows.data)[offset] = narrow(value);
  } else {
    static_cast<float*>(rows.data)[offset] = value;
  }
}

/// The first report stands until the host has read it.
__device__ __forceinline__ void report(const FaultSink& sink, FaultKind kind, int64_t a, int64_t b,
                                       int64_t c = 0) {
  auto* state = reinterpret_cast<int*>(&sink.record->kind);
  if (atomicCAS(state, 0, static_cast<int>(kind)) != 0) return;
  sink.record->op = sink.op;
  sink.record->values[0] = a;
  sink.record->values[1] = b;
  sink.record->values[2] = c;
}

}  // namespace quire::cuda
