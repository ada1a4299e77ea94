#include "kernels/cuda/fp8_product.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/product_tile.cuh"
#include "kernels/cuda/device/tile.cuh"

namespace quire::cuda {
namespace {

constexpr int kDepth = kProductDepth;
constexpr int kCodes = 8;  // that become one store of 16 bytes
constexpr int kTile = kTileRows * kTileStride<kDepth>;
static_assert(kFp8TileUnit % kDepth == 0);

struct Product {
  const BFloat16* a;  // [m, k], rows a_stride apart
  Fp8Weight weight;
  float* out;  // [m, n], rows out_stride apart
  int64_t m, a_stride, out_stride;
  bool is_aligned;
};

/// A code times its scale, rounded once to bf16, to the nearest, ties to even, as widen_fp8 does:
/// the first rounding, to f32, is made one to odd by its exact error, which a fused product gives.
__device__ __forceinline__ uint32_t widen_e4m3(uint32_t code, float scale) {
  const uint32_t magnitude = code & 0x7Fu;
  // The code's bits as an f32's exponent and fraction are its number times 2^-120, subnormal or
  // not.
  const float number = __uint_as_float(magnitude << 20) * 0x1p120f;
  const float product = number * scale;
  const float error = fmaf(number, scale, -product);
  uint32_t bits = __float_as_uint(product);
  if (error != 0) bits = (error < 0 ? bits - 1 : bits) | 1u;
  if (magnitude == 0x7Fu) bits = 0x7FC00000u;
  return narrow(__uint_as_float(bits)).bits | (code & 0x80u) << 8;
}

struct alignas(8) Codes {
  uint32_t words[2];
};

/// Eight codes and the scale that they share.
struct CodesAndScale {
  Codes codes;
  float scale;
};

__device__ __forceinline__ ptx::Words16 widen_codes(const CodesAndScale& from) {
  ptx::Words16 pairs;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t two = from.codes.words[i / 2] >> (i % 2 * 16);
    pairs.words[i] = widen_e4m3(two & 0xFFu, from.scale) | widen_e4m3(two >> 8 & 0xFFu, from.scale)
                                                               << 16;
  }
  return pairs;
}

/// One tile of 64 rows and `kOutColumns` columns of the result per block; k in steps of 64. While a
/// step is multiplied, the next one's rows of `a` are copied and its codes wait in registers.
template <int kOutColumns>
__global__ void __launch_bounds__(kTileThreads, kProductBlocksAtOnce)
    fp8_product_kernel(Product p) {
  constexpr int kBTile = kOutColumns * kTileStride<kDepth>;
  constexpr int kChunks = kOutColumns * kDepth / kCodes / kTileThreads;  // of a thread
  auto* const a_tiles = reinterpret_cast<BFloat16*>(ptx::dynamic_shared_memory());
  BFloat16* const b_tiles = a_tiles + 2 * kTile;
  const int64_t first_m = static_cast<int64_t>(blockIdx.y) * kTileRows;
  const int64_t first_n = static_cast<int64_t>(blockIdx.x) * kOutColumns;
  const Fp8Weight& weight = p.weight;
  CodesAndScale next[kChunks];

  const auto load_step = [&](int64_t step) {
    const int64_t first_k = step * kDepth;
    const int width = static_cast<int>(min(int64_t{kDepth}, weight.num_columns - first_k));
    load_tile<kTileRows, kDepth>(a_tiles + step % 2 * kTile, width, p.is_aligned, p.a, [&](int r) {
      return first_m + r < p.m ? p.a + (first_m + r) * p.a_stride + first_k : nullptr;
    });
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = i * kTileThreads + static_cast<int>(threadIdx.x);
      const int64_t n = first_n + chunk / (kDepth / kCodes);
      const int64_t k = first_k + chunk % (kDepth / kCodes) * kCodes;
      next[i] = {};
      if (n >= weight.num_rows || k >= weight.pitch) continue;
      next[i].codes = *reinterpret_cast<const Codes*>(weight.codes + n * weight.pitch + k);
      next[i].scale = weight.scales[n * weight.num_tiles + first_k / weight.tile_columns];
    }
  };
  const auto widen_step = [&](int64_t step) {
    BFloat16* const tile = b_tiles + step % 2 * kBTile;
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = i * kTileThreads + static_cast<int>(threadIdx.x);
      ptx::store_shared_16(tile + chunk / (kDepth / kCodes) * kTileStride<kDepth> +
                               chunk % (kDepth / kCodes) * kCodes,
                           widen_codes(next[i]));
    }
  };

  const bool has_rows = first_m + threadIdx.x / kWarpSize * 16 < p.m;  // this warp
  float sums[kOutColumns / 8][4] = {};
  const int64_t num_steps = (weight.num_columns + kDepth - 1) / kDepth;
  for_each_step(num_steps, load_step, widen_step, [&](int64_t step) {
    if (has_rows) {
      multiply_rows<kDepth, kOutColumns>(sums, a_tiles + step % 2 * kTile,
                                         b_tiles + step % 2 * kBTile);
    }
  });

  for_each_sum<kOutColumns>(sums, [&](int row, int column, float sum) {
    const int64_t m = first_m + row, n = first_n + column;
    if (m < p.m && n < weight.num_rows) p.out[m * p.out_stride + n] = sum;
  });
}

}  // namespace

void fp8_product(const ConstTensorView& a, const Fp8Weight& weight, const TensorView& out,
                 const OpStream& stream) {
  const Product p{
      static_cast<const BFloat16*>(a.data),
      weight,
      static_cast<float*>(out.data),
      a.shape[0],
      a.stride[0],
      out.stride[0],
      weight.num_columns % 8 == 0 && a.stride[0] % 8 == 0 && is_16_byte_aligned(a.data)};
  for_product_columns(p.m, [&](auto columns) {
    launch_product<columns()>(stream, fp8_product_kernel<columns()>, p.m, weight.num_rows, p);
  });
}

}  // namespace quire::cuda
