#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Every line of PTX that the kernels use, wrapped once. tests/cuda_emulator has a twin of this file
// with the same meaning in plain C++; the two must agree.

namespace quire::cuda::ptx {

/// The block's dynamic shared memory, 128-byte aligned.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// Starts to copy 16 bytes to shared memory; zeros instead where `is_valid` is false (`global` is
/// not read then). Both 16-byte aligned. Done after wait_copies and a barrier.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool is_valid) {
  const int source_bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(source_bytes)
               : "memory");
}

__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/// Waits until at most kPending of this thread's committed groups are still under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

/// Four 8x8 matrices of 16-bit elements; lane l gives row l % 8 of matrix l / 8. Thread t receives
/// of each matrix the elements 2 * (t % 4) and + 1 of row t / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&result)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(shared_address(row))
               : "memory");
}

/// The same with each matrix transposed: elements 2 * (t % 4) and + 1 of its column t / 4.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&result)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(shared_address(row))
               : "memory");
}

/// d += a * b for a 16x16 by 16x8 product of bf16 with f32 sums. With g = lane / 4, t = lane % 4:
///   a[0]: row g, columns 2t, 2t+1     a[1]: row g+8     a[2]: row g, columns +8     a[3]: both
///   b0: rows 2t, 2t+1 of column g     b1: rows +8
///   d[0], d[1]: row g, columns 2t, 2t+1                 d[2], d[3]: row g+8
__device__ __forceinline__ void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4],
                                                    uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The same for a 16x32 by 32x8 product of 8-bit integers with 32-bit sums. An element of 16 bits
/// above is a pair of integers here: a[0] holds columns 4t .. 4t+3 of row g, b0 rows 4t .. 4t+3.
__device__ __forceinline__ void multiply_accumulate(int32_t (&d)[4], const uint32_t (&a)[4],
                                                    uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

struct alignas(16) Words16 {
  uint32_t words[4];
};

/// 16 bytes of shared memory, 16-byte aligned.
__device__ __forceinline__ Words16 load_shared_16(const void* shared) {
  return *static_cast<const Words16*>(shared);
}
__device__ __forceinline__ void store_shared_16(void* shared, const Words16& value) {
  *static_cast<Words16*>(shared) = value;
}

/// Two floats as bf16, rounded to nearest even, `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

}  // namespace quire::cuda::ptx
