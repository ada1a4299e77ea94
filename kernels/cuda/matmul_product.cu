#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/device/product_tile.cuh"
#include "kernels/cuda/device/tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/plan.h"

namespace quire::cuda {
namespace {

constexpr int kDepth = kProductDepth;

struct Product {
  const void* a;       // [m, k], rows a_stride apart
  const void* weight;  // [n, k]
  float* out;          // [m, n], rows out_stride apart
  int64_t m, n, k, a_stride, out_stride;
  bool is_aligned;
};

/// One tile of 64 rows and `kOutColumns` columns of the result per block; k in steps of 64, the
/// next step's rows under way while this one is multiplied. A sum is one chain over k, whatever the
/// width.
template <int kOutColumns>
__global__ void __launch_bounds__(kTileThreads, kProductBlocksAtOnce)
    bf16_product_kernel(Product p) {
  auto* shared = reinterpret_cast<BFloat16*>(ptx::dynamic_shared_memory());
  BFloat16* const a_tiles = shared;
  BFloat16* const b_tiles = shared + 2 * kTileRows * kTileStride<kDepth>;
  const auto* a = static_cast<const BFloat16*>(p.a);
  const auto* weight = static_cast<const BFloat16*>(p.weight);
  const int64_t first_m = static_cast<int64_t>(blockIdx.y) * kTileRows;
  const int64_t first_n = static_cast<int64_t>(blockIdx.x) * kOutColumns;

  const auto load_step = [&](int64_t step) {
    const int64_t first_k = step * kDepth;
    const int width = static_cast<int>(min(static_cast<int64_t>(kDepth), p.k - first_k));
    const int buffer = static_cast<int>(step % 2);
    load_tile<kTileRows, kDepth>(
        a_tiles + buffer * kTileRows * kTileStride<kDepth>, width, p.is_aligned, a, [&](int r) {
          return first_m + r < p.m ? a + (first_m + r) * p.a_stride + first_k : nullptr;
        });
    load_tile<kOutColumns, kDepth>(
        b_tiles + buffer * kOutColumns * kTileStride<kDepth>, width, p.is_aligned, weight,
        [&](int r) {
          return first_n + r < p.n ? weight + (first_n + r) * p.k + first_k : nullptr;
        });
  };

  const bool has_rows = first_m + threadIdx.x / kWarpSize * 16 < p.m;  // this warp
  float sums[kOutColumns / 8][4] = {};
  const int64_t num_steps = (p.k + kDepth - 1) / kDepth;
  for_each_step(num_steps, load_step, [&](int64_t step) {
    const int buffer = static_cast<int>(step % 2);
    if (has_rows) {
      multiply_rows<kDepth, kOutColumns>(sums, a_tiles + buffer * kTileRows * kTileStride<kDepth>,
                                         b_tiles + buffer * kOutColumns * kTileStride<kDepth>);
    }
  });

  for_each_sum<kOutColumns>(sums, [&](int row, int column, float sum) {
    const int64_t m = first_m + row, n = first_n + column;
    if (m < p.m && n < p.n) p.out[m * p.out_stride + n] = sum;
  });
}

constexpr int kF32Tile = 16;

/// f32 weights are a test's and a reference's business: plain tiles, one fused product per term.
__global__ void __launch_bounds__(kF32Tile* kF32Tile) f32_product_kernel(Product p) {
  __shared__ float a_tile[kF32Tile][kF32Tile + 1], b_tile[kF32Tile][kF32Tile + 1];
  const auto* a = static_cast<const float*>(p.a);
  const auto* weight = static_cast<const float*>(p.weight);
  const int x = threadIdx.x % kF32Tile, y = threadIdx.x / kF32Tile;
  const int64_t first_m = static_cast<int64_t>(blockIdx.y) * kF32Tile;
  const int64_t first_n = static_cast<int64_t>(blockIdx.x) * kF32Tile;
  float sum = 0;
  for (int64_t k = 0; k < p.k; k += kF32Tile) {
    const bool in_k = k + x < p.k;
    a_tile[y][x] = in_k && first_m + y < p.m ? a[(first_m + y) * p.a_stride + k + x] : 0.0f;
    b_tile[y][x] = in_k && first_n + y < p.n ? weight[(first_n + y) * p.k + k + x] : 0.0f;
    __syncthreads();
    for (int i = 0; i < kF32Tile; ++i) sum = fmaf(a_tile[y][i], b_tile[x][i], sum);
    __syncthreads();
  }
  if (first_m + y < p.m && first_n + x < p.n) {
    p.out[(first_m + y) * p.out_stride + first_n + x] = sum;
  }
}

// The grid's y and z axes end at 65,535 blocks; x does not.
constexpr int64_t kMaxRowsPerLaunch = 65'535 * kF32Tile;

}  // namespace

void product(const ConstTensorView& a, const ConstTensorView& weight, const TensorView& out,
             const OpStream& stream) {
  Product p{a.data,      weight.data,     static_cast<float*>(out.data),
            a.shape[0],  weight.shape[0], weight.shape[1],
            a.stride[0], out.stride[0],   false};
  QUIRE_CHECK(p.m <= kMaxRowsPerLaunch) << "a product of " << p.m << " rows";
  if (p.n == 0) return;
  if (a.dtype == DType::kF32) {
    launch(stream, f32_product_kernel,
           dim3{blocks_for(p.n, kF32Tile), blocks_for(p.m, kF32Tile), 1},
           dim3{kF32Tile * kF32Tile, 1, 1}, 0, p);
    return;
  }
  p.is_aligned = p.k % 8 == 0 && p.a_stride % 8 == 0 && is_16_byte_aligned(a.data) &&
                 is_16_byte_aligned(weight.data);
  for_product_columns(p.m, [&](auto columns) {
    launch_product<columns()>(stream, bf16_product_kernel<columns()>, p.m, p.n, p);
  });
}

}  // namespace quire::cuda
